"""Fashion-MNIST: where it comes from, in memory, split (Xiao et al., 2017, arXiv:1708.07747).

`python -m async_hpo.data` fetches and verifies the four files by itself.
"""

import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from numbers import Integral
from pathlib import Path

import torch
import torchvision
from d2l import torch as d2l
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset
from torchvision.datasets.utils import check_integrity, download_url

from async_hpo import ROOT

#: File name -> MD5 sum, as torchvision publishes them.
FILES: dict[str, str] = dict(torchvision.datasets.FashionMNIST.resources)
MIRROR = torchvision.datasets.FashionMNIST.mirrors[0]
RAW = ROOT / "data" / "FashionMNIST" / "raw"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
#: When the four files were compressed (31 August 2017): Unix time, part of the bytes that the MD5 sums cover.
_GZIP_TIMES = {name: 1504176606 if name.startswith("train") else 1504176627 for name in FILES}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

NUM_VALIDATION = 10_000
SPLIT_SEED = 0
# Divides 10,000: HPOTrainer averages over batches, and a smaller last batch would weigh too much.
VALIDATION_BATCH_SIZE = 500


def fetch(raw: Path = RAW) -> Path:
    """Make sure that the four original files lie in `raw`, whole, and return `raw`.

    A missing or damaged file is replaced, never used. Sources, in this order: `raw` itself, the
    Debian and Ubuntu package `dataset-fashion-mnist` where it is installed, the same package
    downloaded and unpacked without root, torchvision's download.

    Raises:
        FileNotFoundError: no source has the files; the message says what was tried.
    """
    raw = Path(raw)
    if not (missing := _damaged(raw)):
        return raw
    raw.mkdir(parents=True, exist_ok=True)
    tried = []
    for name, source in _SOURCES.items():
        print(f"Fashion-MNIST: {len(missing)} of {len(FILES)} files missing or damaged, trying {name} ...", flush=True)
        reason = "its files are not the original ones"
        try:
            source(raw, missing)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = _one_line(error)
        if not (missing := _damaged(raw)):
            return raw
        tried.append(f"  - {name}: {reason}")
    raise FileNotFoundError(
        f"Fashion-MNIST is not complete: {', '.join(missing)} missing or damaged. Tried:\n"
        + "\n".join(tried)
        + f"\nTo put the files there by hand, copy {', '.join(missing)} (from {MIRROR} or any other copy) into {raw}"
    )


def _damaged(raw: Path) -> list[str]:
    return [name for name, md5 in FILES.items() if not check_integrity(raw / name, md5)]


def _one_line(error: Exception) -> str:
    detail = getattr(error, "stderr", None) or str(error) or type(error).__name__
    return detail.strip().splitlines()[-1]


def _take(folder: Path, raw: Path, names: list[str]) -> None:
    """Put whole files into `raw`, each in one step, so that an interrupt leaves no half file."""
    for name in names:
        content = _with_original_header((folder / name).read_bytes(), name)
        if hashlib.md5(content).hexdigest() == FILES[name]:
            with tempfile.TemporaryDirectory(dir=raw, prefix=".part-") as part:
                (Path(part) / name).write_bytes(content)
                (Path(part) / name).replace(raw / name)


def _with_original_header(content: bytes, name: str) -> bytes:
    """Restore the name and time in a gzip header (RFC 1952): Debian's package strips them, the MD5 sums cover them."""
    magic, flags, rest = content[:3], content[3], content[10:]
    if magic != b"\x1f\x8b\x08" or flags != 0:
        return content
    time, stem = struct.pack("<I", _GZIP_TIMES[name]), Path(name).stem.encode()
    return magic + b"\x08" + time + b"\x00\x03" + stem + b"\x00" + rest


def _from_installed_package(raw: Path, names: list[str]) -> None:
    if not DEBIAN_FOLDER.is_dir():
        raise FileNotFoundError(f"{DEBIAN_PACKAGE} is not installed")
    _take(DEBIAN_FOLDER, raw, names)


def _from_downloaded_package(raw: Path, names: list[str]) -> None:
    if shutil.which("apt-get") is None:
        raise FileNotFoundError("this system has no apt-get")
    with tempfile.TemporaryDirectory() as folder:
        try:
            _apt("download", DEBIAN_PACKAGE, folder=folder)
        except subprocess.CalledProcessError:  # no package lists on a fresh system: fetch a private copy of them
            Path(folder, "partial").mkdir()
            private = ["-o", f"Dir::State::lists={folder}", "-o", f"Dir::Cache={folder}"]
            _apt(*private, "update", folder=folder)
            _apt(*private, "download", DEBIAN_PACKAGE, folder=folder)
        package = next(Path(folder).glob(f"{DEBIAN_PACKAGE}*.deb"))
        _run("dpkg-deb", "-x", str(package), folder, folder=folder)
        _take(Path(folder) / DEBIAN_FOLDER.relative_to("/"), raw, names)


def _apt(*arguments: str, folder: str) -> None:
    _run("apt-get", "-q", "-o", "APT::Sandbox::User=", *arguments, folder=folder)


def _run(*command: str, folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)


def _from_torchvision(raw: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=raw, prefix=".part-") as part:
        for name in names:
            download_url(MIRROR + name, part, name, FILES[name])
        _take(Path(part), raw, names)


_SOURCES: dict[str, Callable[[Path, list[str]], None]] = {
    f"the installed package {DEBIAN_PACKAGE}": _from_installed_package,
    f"the package {DEBIAN_PACKAGE} from apt-get": _from_downloaded_package,
    f"torchvision's download from {MIRROR}": _from_torchvision,
}


def load(raw: Path = RAW) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read all images once per process.

    Returns:
        `{"train": (X, y), "validation": (X, y), "test": (X, y)}` with X of shape (n, 1, 28, 28), float32 in
        [0, 1], and y of shape (n,), int64; n = 50,000, 10,000 and 10,000. Training and validation images are
        split at random with a fixed seed; the test images are Fashion-MNIST's own.
    """
    return _given or _load(raw)


def use(images: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Let `load` return these tensors, of the same shapes, from now on: memory that processes share, say."""
    global _given
    _given = images


_given: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None


@lru_cache(maxsize=1)
def _load(raw: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    raw = fetch(raw)
    X, y = _read(raw, "train")
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(SPLIT_SEED))
    validation, train = order[:NUM_VALIDATION], order[NUM_VALIDATION:]
    return {"train": (X[train], y[train]), "validation": (X[validation], y[validation]), "test": _read(raw, "t10k")}


def _read(raw: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = _read_idx(raw / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 1, 28, 28)
    return images.float().div_(255), _read_idx(raw / f"{part}-labels-idx1-ubyte.gz", header=8).long()


def _read_idx(path: Path, header: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())), dtype=torch.uint8, offset=header)


class FashionMNIST(d2l.DataModule):
    """Fashion-MNIST behind D2L's `DataModule` interface, served from memory.

    D2L's own `FashionMNIST` decodes every image again in every epoch and validates on the *test* images. This one keeps
    the images as tensors and validates on 10,000 images split off the training images.

    Args:
        batch_size: training images per step. Validation and test batches have a size of their own.
    """

    def __init__(self, batch_size: int | Integral = 64):
        if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive whole number, not {batch_size!r}")
        super().__init__(root=str(RAW.parents[1]), num_workers=0)
        self.batch_size = int(batch_size)  # a number out of a table is numpy's
        self.tensors = load()

    def get_dataloader(self, train: bool) -> DataLoader:
        """Batches (X, y) of shapes (batch_size, 1, 28, 28) and (batch_size,): shuffled training ones, or validation."""
        return self._loader("train", self.batch_size, shuffle=True) if train else self._loader("validation")

    def test_dataloader(self) -> DataLoader:
        """Batches of the 10,000 test images. Touch them once, for the incumbent."""
        return self._loader("test")

    def _loader(self, part: str, batch_size: int = VALIDATION_BATCH_SIZE, shuffle: bool = False) -> DataLoader:
        dataset = TensorDataset(*self.tensors[part])
        order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        # Every DataLoader draws a number whenever it is read. These draw it from a generator of their own, unless they
        # shuffle: how often a model is validated must not change the order of its training images.
        generator = None if shuffle else torch.Generator()
        # A batch is one indexing operation, not `batch_size` of them and a copy: batch_size=None says so.
        batches = BatchSampler(order, batch_size, drop_last=False)
        return DataLoader(dataset, sampler=batches, batch_size=None, generator=generator)

    def text_labels(self, indices: torch.Tensor) -> list[str]:
        """The class names of a tensor of labels, as in D2L."""
        return d2l.FashionMNIST.text_labels(self, indices)


def _describe() -> Iterator[str]:
    yield f"Fashion-MNIST is whole: {len(FILES)} files in {fetch()}"
    for part, (X, y) in load().items():
        yield f"  {part:<10} {len(X):6,} images, {len(y.unique())} classes"


if __name__ == "__main__":
    try:
        print(*_describe(), sep="\n")
    except FileNotFoundError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Fashion-MNIST: interrupted; call again to fetch what is missing.")
