import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch

from async_hpo import data
from async_hpo.data import FILES, RAW, FashionMNIST, fetch, load

LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No installed package, no apt-get, and a mirror on this machine where nothing answers."""
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "not-there")
    monkeypatch.setattr(data, "MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_parts_are_whole_and_disjoint():
    parts = load()
    assert {name: tuple(X.shape) for name, (X, _) in parts.items()} == {
        "train": (50_000, 1, 28, 28),
        "validation": (10_000, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    X, y = parts["train"]
    assert X.dtype == torch.float32 and X.min() >= 0 and X.max() == 1
    assert y.dtype == torch.int64 and y.unique().tolist() == list(range(10))
    # Together, training and validation images are the 60,000 originals, each once.
    original = gzip.decompress((RAW / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    images = [original[i : i + 784] for i in range(0, len(original), 784)]
    ours = torch.cat([parts["train"][0], parts["validation"][0]]).mul(255).round().byte().reshape(-1, 784).numpy()
    assert sorted(images) == sorted(row.tobytes() for row in ours)


def test_an_epoch_serves_every_training_image_once_in_a_new_order():
    module = FashionMNIST(batch_size=96)
    first, second = ([y for _, y in module.train_dataloader()] for _ in range(2))
    assert [len(y) for y in first] == [96] * 520 + [80]
    assert torch.cat(first).bincount().equal(load()["train"][1].bincount())
    assert not torch.cat(first).equal(torch.cat(second))


def test_validating_more_often_does_not_change_the_training_order():
    def order(times):
        torch.manual_seed(0)
        module = FashionMNIST(batch_size=1000)
        for _ in range(times):
            next(iter(module.val_dataloader()))
        return torch.cat([y for _, y in module.train_dataloader()])

    assert order(times=0).equal(order(times=3))


def test_validation_and_test_batches_are_equal_in_size_and_in_order():
    module = FashionMNIST(batch_size=96)
    for loader, part in ((module.val_dataloader(), "validation"), (module.test_dataloader(), "test")):
        labels = [y for _, y in loader]
        assert {len(y) for y in labels} == {data.VALIDATION_BATCH_SIZE}
        assert torch.cat(labels).equal(load()[part][1])


def test_a_batch_size_out_of_a_table_is_allowed():
    X, _ = next(iter(FashionMNIST(batch_size=np.int64(7)).train_dataloader()))
    assert X.shape == (7, 1, 28, 28)


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, "64", True])
def test_a_wrong_batch_size_is_refused(batch_size):
    with pytest.raises(ValueError, match="batch_size must be a positive whole number"):
        FashionMNIST(batch_size=batch_size)


def test_whole_files_need_no_source(offline):
    assert fetch(RAW) == RAW


def test_a_damaged_file_is_replaced(offline, monkeypatch, tmp_path):
    shutil.copytree(RAW, raw := tmp_path / "raw")
    (raw / LABELS).write_bytes((raw / LABELS).read_bytes()[:-100])  # an interrupted download
    (raw / ".part-left").mkdir()
    monkeypatch.setattr(data, "DEBIAN_FOLDER", RAW)
    fetch(raw)
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES


def test_files_of_the_debian_package_become_the_originals(offline, monkeypatch, tmp_path):
    """The package holds the same files without the gzip header's name and time."""
    (package := tmp_path / "package").mkdir()
    for name in FILES:
        original = (RAW / name).read_bytes()
        header_end = 10 + len(name.removesuffix(".gz")) + 1
        (package / name).write_bytes(original[:3] + b"\0" + original[4:10] + original[header_end:])
    monkeypatch.setattr(data, "DEBIAN_FOLDER", package)
    raw = fetch(tmp_path / "raw")
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES


def test_when_nothing_works_one_error_says_what_to_do(offline, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        fetch(tmp_path / "raw")
    message = str(error.value)
    assert "is not installed" in message and "no apt-get" in message and "http://127.0.0.1:9/" in message
    assert f"into {tmp_path / 'raw'}" in message and all(name in message for name in FILES)
    assert not any((tmp_path / "raw").iterdir()), "no half file stays behind"


def test_a_wrong_file_is_never_used(offline, monkeypatch, tmp_path):
    (package := tmp_path / "package").mkdir()
    for name in FILES:
        (package / name).write_bytes(gzip.compress(b"something else"))
    monkeypatch.setattr(data, "DEBIAN_FOLDER", package)
    with pytest.raises(FileNotFoundError, match="not the original ones"):
        fetch(tmp_path / "raw")
