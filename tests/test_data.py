"""The images, whole from wherever they come, and how they are served."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
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


def test_the_parts_are_whole_and_disjoint():
    parts = load()
    sizes = {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert {name: tuple(X.shape) for name, (X, _) in parts.items()} == {k: (n, 1, 28, 28) for k, n in sizes.items()}
    X, y = parts["train"]
    assert X.dtype == torch.float32 and X.min() >= 0 and X.max() == 1
    assert y.dtype == torch.int64 and y.unique().tolist() == list(range(10))
    # Together, training and validation images are the 60,000 originals, each once.
    original = np.frombuffer(gzip.decompress((RAW / "train-images-idx3-ubyte.gz").read_bytes())[16:], "V784")
    ours = torch.cat([X, parts["validation"][0]]).mul(255).round().byte().reshape(-1, 784).numpy()
    assert Counter(original.tolist()) == Counter(ours.view("V784").ravel().tolist())


@pytest.fixture
def few(monkeypatch):
    """The first images of each part in place of all: so few that a short epoch has each of them, too."""
    few = {part: (X[:2000], y[:2000]) for part, (X, y) in data.arrays().items()}
    monkeypatch.setattr(data, "_given", None)
    data.use(few)
    return few


def test_other_images_can_be_given_and_are_not_copied(few):
    for part, (X, y) in FashionMNIST().tensors.items():
        assert np.shares_memory(X.numpy(), few[part][0]) and np.shares_memory(y.numpy(), few[part][1])


def test_an_epoch_serves_every_training_image_once_in_a_new_order(few):
    module = FashionMNIST(batch_size=np.int64(96))  # as it comes out of a table
    first, second = ([*module.train_dataloader()] for _ in range(2))
    assert [len(y) for _, y in first] == [96] * 20 + [80]
    rows = [
        sorted(image.numpy().tobytes() + bytes([label]) for X, y in batches for image, label in zip(X, y, strict=True))
        for batches in (first, second, [module.tensors["train"]])
    ]
    assert rows[0] == rows[1] == rows[2], "images with their labels"
    assert not first[0][1].equal(second[0][1])


@pytest.mark.parametrize(("short", "idle", "n"), [(True, False, 10_000), (True, True, 50_000), (False, False, 50_000)])
def test_an_epoch_of_a_test_is_a_fifth_and_one_that_is_measured_is_whole(monkeypatch, short, idle, n):
    monkeypatch.setattr(paths, "SHORT", short)
    monkeypatch.setattr(paths, "IDLE", idle)
    module = FashionMNIST(batch_size=1000)
    assert [sum(len(y) for _, y in loader) for loader in (module.train_dataloader(), module.val_dataloader())] == [
        n,
        10_000,
    ]


def test_validation_is_in_order_and_does_not_change_the_order_of_training(few):
    def order(times):
        torch.manual_seed(0)
        module = FashionMNIST(batch_size=100)
        for _ in range(times):
            next(iter(module.val_dataloader()))
        return torch.cat([y for _, y in module.train_dataloader()])

    assert order(times=0).equal(order(times=3))
    module = FashionMNIST(batch_size=96)
    for loader, part in ((module.val_dataloader(), "validation"), (module.test_dataloader(), "test")):
        labels = [y for _, y in loader]
        assert {len(y) for y in labels} == {data.VALIDATION_BATCH_SIZE}
        assert torch.cat(labels).equal(load()[part][1])


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, "64", True])
def test_a_wrong_batch_size_is_refused(batch_size):
    with pytest.raises(ValueError, match="batch_size must be a positive whole number"):
        FashionMNIST(batch_size=batch_size)


@pytest.fixture
def raw(monkeypatch, tmp_path):
    """A folder where one file is missing, and one is cut off; no installed package, no apt-get, and a mirror on this
    machine where nothing answers."""
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", Path("/usr/share/not/there"))
    monkeypatch.setattr(fetching, "MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setenv("PATH", str(tmp_path))
    shutil.copytree(RAW, raw := tmp_path / "raw", ignore=shutil.ignore_patterns("*-ubyte"))
    (raw / "t10k-images-idx3-ubyte.gz").unlink()
    (raw / LABELS).write_bytes((raw / LABELS).read_bytes()[:-100])
    return raw


def installed(folder, monkeypatch):
    """The package holds the same files without the gzip header's name and time."""
    (package := folder / "package").mkdir()
    for name in FILES:
        original = (RAW / name).read_bytes()
        header_end = 10 + len(name.removesuffix(".gz")) + 1
        (package / name).write_bytes(original[:3] + b"\0" + original[4:10] + original[header_end:])
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", package)


def apt_get(folder, monkeypatch):
    """One that needs lists of packages first, and a `dpkg-deb` that unpacks the original files."""
    scripts = {
        "apt-get": """
            case "$*" in
                *Dir::State::lists=$PWD*update) test -d partial && touch lists ;;
                *download*) test -e lists && touch dataset-fashion-mnist_1_all.deb ;;
            esac""",
        "dpkg-deb": f"""
            test "$1 $2" = "-x dataset-fashion-mnist_1_all.deb" || exit 1
            mkdir -p "$3/usr/share/not/there"
            cp "{RAW}"/*.gz "$3/usr/share/not/there" """,
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def mirror(folder, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=RAW))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(fetching, "MIRROR", f"http://127.0.0.1:{server.server_port}/")


@pytest.mark.parametrize("source", [installed, apt_get, mirror])
def test_what_is_missing_or_damaged_comes_from_any_source(raw, monkeypatch, tmp_path, capsys, source):
    source(tmp_path, monkeypatch)
    assert fetch(raw) == raw
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES), "no half file stays behind"
    assert {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in FILES} == FILES
    n_tried = {installed: 1, apt_get: 2, mirror: 3}[source]
    assert capsys.readouterr().out.count("2 of 4 files missing or damaged, trying") == n_tried
    assert fetch(raw) == raw and capsys.readouterr().out == "", "whole files need no source"


def test_when_nothing_works_one_error_says_what_to_do_and_a_wrong_file_is_never_used(raw, monkeypatch, tmp_path):
    monkeypatch.setattr(fetching, "DEBIAN_FOLDER", tmp_path)
    for name in FILES:
        (tmp_path / name).write_bytes(gzip.compress(b"something else"))
    before = (raw / LABELS).read_bytes()
    with pytest.raises(FileNotFoundError) as error:
        fetch(raw)
    message = str(error.value)
    assert "not the original ones" in message and "apt-get: not found" in message and "http://127.0.0.1:9/" in message
    assert f", {LABELS} (from" in message and f"into {raw}" in message and (raw / LABELS).read_bytes() == before


WHERE = """
import os
from async_hpo import paths
before = str(paths.experiments())
os.chdir("/")
print(paths.DATA, before == str(paths.experiments()), os.environ["ASYNC_HPO_HOME"])
"""


@pytest.mark.parametrize(("given", "runs"), [("~/책", "~/runs"), ("책", "runs")])
def test_a_home_of_ones_own_is_one_place(tmp_path, given, runs):
    """Also for processes that it starts, in other folders."""
    env = os.environ | {"HOME": str(tmp_path), "ASYNC_HPO_HOME": given, "SYNETUNE_FOLDER": runs, "PYTHONUTF8": "1"}
    said = subprocess.check_output([sys.executable, "-c", WHERE], cwd=tmp_path, env=env, encoding="utf-8")
    assert said == f"{tmp_path}/책/data True {tmp_path}/책\n"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_place_that_is_no_folder_is_one_line(tmp_path, kind):
    place = tmp_path / "data"
    place.touch() if kind == "file" else place.symlink_to(tmp_path / "not-there")
    command = [sys.executable, "-m", "async_hpo.data"]
    done = subprocess.run(
        command, env=os.environ | {"ASYNC_HPO_HOME": str(tmp_path)}, capture_output=True, cwd=paths.ROOT
    )
    assert done.returncode != 0 and done.stderr.startswith(f"Fashion-MNIST can't be put into {place}/".encode())
    assert done.stderr.count(b"\n") == 1 and b"call again" in done.stderr
