import gzip
import hashlib
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from async_hpo import data, paths
from async_hpo import fetch as fetching
from async_hpo.data import FILES, RAW, FashionMNIST, fetch, load

LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No installed package, no apt-get, and a mirror on this machine where nothing answers."""
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", tmp_path / "not-there")
    monkeypatch.setattr(fetching, "MIRROR", "http://127.0.0.1:9/")
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


@pytest.fixture
def few(monkeypatch):
    """The first images of each part in place of all: so few that a short epoch has each of them, too."""
    monkeypatch.setattr(data, "_given", None)
    data.use({part: (X[:2000], y[:2000]) for part, (X, y) in data.arrays().items()})


def test_an_epoch_serves_every_training_image_once_in_a_new_order(few):
    module = FashionMNIST(batch_size=96)
    first, second = ([(X, y) for X, y in module.train_dataloader()] for _ in range(2))
    assert [len(y) for _, y in first] == [96] * 20 + [80]
    rows = [
        sorted(image.numpy().tobytes() + bytes([label]) for X, y in batches for image, label in zip(X, y, strict=True))
        for batches in (first, second, [module.tensors["train"]])
    ]
    assert rows[0] == rows[1] == rows[2], "images with their labels"
    assert not first[0][1].equal(second[0][1])


def test_an_epoch_of_a_test_is_a_fifth_and_one_that_is_measured_is_whole(monkeypatch):
    def images():
        module = FashionMNIST(batch_size=1000)
        return [sum(len(y) for _, y in loader) for loader in (module.train_dataloader(), module.val_dataloader())]

    assert images() == [50_000 if paths.IDLE else 10_000, 10_000]
    for name, value in (("IDLE", True), ("SHORT", False)):
        with monkeypatch.context() as here:
            here.setattr(paths, name, value)
            assert images() == [50_000, 10_000]


def test_validating_more_often_does_not_change_the_training_order(few):
    def order(times):
        torch.manual_seed(0)
        module = FashionMNIST(batch_size=100)
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
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", RAW)
    fetch(raw)
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES


def test_files_of_the_debian_package_become_the_originals(offline, monkeypatch, tmp_path):
    """The package holds the same files without the gzip header's name and time."""
    (package := tmp_path / "package").mkdir()
    for name in FILES:
        original = (RAW / name).read_bytes()
        header_end = 10 + len(name.removesuffix(".gz")) + 1
        (package / name).write_bytes(original[:3] + b"\0" + original[4:10] + original[header_end:])
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", package)
    raw = fetch(tmp_path / "raw")
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES


@pytest.fixture
def tools(offline, monkeypatch, tmp_path):
    """An `apt-get` that needs lists of packages first, and a `dpkg-deb` that unpacks the original files."""
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", Path("/usr/share/not/there"))
    scripts = {
        "apt-get": f"""
            echo "$@" >> "{tmp_path}/calls"
            case "$*" in
                *Dir::State::lists=$PWD*update) test -d partial && touch "{tmp_path}/lists" ;;
                *download*) test -e "{tmp_path}/lists" && touch dataset-fashion-mnist_1_all.deb ;;
            esac""",
        "dpkg-deb": f"""
            test "$1 $2" = "-x $PWD/dataset-fashion-mnist_1_all.deb" || exit 1
            mkdir -p "$3/usr/share/not/there"
            cp "{RAW}"/*.gz "$3/usr/share/not/there" """,
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("has_lists", [True, False])
def test_the_package_comes_from_apt_get_which_may_lack_its_lists(tools, has_lists):
    if has_lists:
        (tools / "lists").touch()
    raw = fetch(tools / "raw")
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES
    actions = [line.split()[-2:] for line in (tools / "calls").read_text().splitlines()]
    download = ["download", fetching.DEBIAN_PACKAGE]
    assert [action if "update" not in action else "update" for action in actions] == (
        [download] if has_lists else [download, "update", download]
    )


@pytest.fixture
def mirror(offline, monkeypatch):
    """A mirror on this machine that has the files."""
    handler = partial(SimpleHTTPRequestHandler, directory=RAW)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(fetching, "MIRROR", f"http://127.0.0.1:{server.server_port}/")
        yield
        server.shutdown()


def test_torchvisions_mirror_is_the_last_source(mirror, tmp_path, capsys):
    raw = fetch(tmp_path / "raw")
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES
    tried = [line for line in capsys.readouterr().out.splitlines() if "files missing or damaged, trying" in line]
    assert len(tried) == 3 and all(line.startswith("Fashion-MNIST: 4 of 4 files") for line in tried)
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES), "no half file stays behind"


def test_other_images_can_be_given_and_the_summary_counts_them(monkeypatch):
    monkeypatch.setattr(data, "_given", None)
    few = {part: (X[:1234], y[:1234]) for part, (X, y) in data.arrays().items()}
    data.use(few)
    for part, (X, y) in FashionMNIST().tensors.items():
        assert np.shares_memory(X.numpy(), few[part][0]) and np.shares_memory(y.numpy(), few[part][1]), "not copied"
    first, *parts = data._describe()
    assert first == f"Fashion-MNIST is whole: 4 files in {RAW}"
    assert parts == [f"  {part:<10}  1,234 images, 10 classes" for part in ("train", "validation", "test")]


def test_labels_have_names():
    assert FashionMNIST().text_labels([0, 9]) == ["t-shirt", "ankle boot"]


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
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", package)
    with pytest.raises(FileNotFoundError, match="not the original ones"):
        fetch(tmp_path / "raw")
