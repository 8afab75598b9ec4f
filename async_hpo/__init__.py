"""What the notebooks of the chapter on asynchronous random search share."""

from syne_tune_workers import __getattr__ as __getattr__  # ForkserverBackend and RayBackend, when asked for

from async_hpo.paths import ROOT as ROOT

#: What warm workers share: the images, made once (see `share` of the back-ends).
FASHION_MNIST = ("async_hpo.data:arrays", "async_hpo.data:use")
