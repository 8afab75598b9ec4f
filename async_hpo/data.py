"""Fashion-MNIST in memory, split, behind D2L's interface.

`python -m async_hpo.data` fetches and verifies the four files by itself.
"""

import gzip
import sys
import warnings
from functools import lru_cache
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from d2l import torch as d2l
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from async_hpo import paths
from async_hpo.fetch import FILES, RAW, fetch

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NUM_VALIDATION = 10_000
SPLIT_SEED = 0
# Divides 10,000: HPOTrainer averages over batches, and a smaller last batch would weigh too much.
VALIDATION_BATCH_SIZE = 500


def load(raw: Path = RAW) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read all images once per process.

    Returns:
        `{"train": (X, y), "validation": (X, y), "test": (X, y)}` with X of shape (n, 1, 28, 28), float32 in
        [0, 1], and y of shape (n,), int64; n = 50,000, 10,000 and 10,000. Training and validation images are
        split at random with a fixed seed; the test images are Fashion-MNIST's own.

    Raises:
        FileNotFoundError: no source has the files (see `fetch`).
    """
    return _given or _load(raw)


def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What `load` returns, as NumPy's arrays on the same memory: other processes can `use` it without a copy."""
    return {part: (X.numpy(), y.numpy()) for part, (X, y) in load().items()}


def use(images: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Let `load` return these arrays, of the same shapes, from now on, as tensors on their memory."""
    global _given
    with warnings.catch_warnings(action="ignore"):  # of arrays that can't be written to: so they can be shared
        _given = {part: (torch.from_numpy(X), torch.from_numpy(y)) for part, (X, y) in images.items()}


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


#: In tests, which ask what is right and not how fast it is, an epoch has a fifth of the training images.
_MOST_IN_TESTS = 10_000


class FashionMNIST(d2l.DataModule):
    """Fashion-MNIST behind D2L's `DataModule` interface, served from memory.

    D2L's own `FashionMNIST` decodes every image again in every epoch and validates on the *test* images. This one keeps
    the images as `tensors` (see `load`) and validates on 10,000 images split off the training images.

    Args:
        batch_size: training images per step. Validation and test batches have a size of their own.

    Raises:
        ValueError: `batch_size` is no positive whole number.
        FileNotFoundError: no source has the images.
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
        few = part == "train" and paths.SHORT and not paths.IDLE
        dataset = TensorDataset(*(tensor[: _MOST_IN_TESTS if few else None] for tensor in self.tensors[part]))
        order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        # Every DataLoader draws a number whenever it is read. These draw it from a generator of their own, unless they
        # shuffle: how often a model is validated must not change the order of its training images.
        generator = None if shuffle else torch.Generator()
        # A batch is one indexing operation, not `batch_size` of them and a copy: batch_size=None says so.
        batches = BatchSampler(order, batch_size, drop_last=False)
        return DataLoader(dataset, sampler=batches, batch_size=None, generator=generator)

    def text_labels(self, indices: torch.Tensor) -> list[str]:
        """The class names of a tensor of labels, as in D2L."""
        return [CLASSES[int(index)] for index in indices]


if __name__ == "__main__":
    try:
        print(f"Fashion-MNIST is whole: {len(FILES)} files in {fetch()}")
    except FileNotFoundError as error:
        sys.exit(str(error))
    except OSError as error:
        place = f"{RAW}: {error.filename}: {error.strerror}"
        hint = "Is a part of the path a file, or a link to what is not there? Move that away, then call again."
        sys.exit(f"Fashion-MNIST can't be put into {place}. {hint}")
    except KeyboardInterrupt:
        sys.exit("Fashion-MNIST: interrupted; call again to fetch what is missing.")
