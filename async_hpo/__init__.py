"""What the notebooks of the chapter on asynchronous random search share."""

from typing import Any

from async_hpo.paths import ROOT as ROOT

#: What warm workers share: the images, made once (see `share` of the back-ends).
FASHION_MNIST = ("async_hpo.data:arrays", "async_hpo.data:use")


def __getattr__(name: str) -> Any:
    """ForkserverBackend and RayBackend, when asked for: what builds the pages has neither."""
    import syne_tune_workers

    return getattr(syne_tune_workers, name)
