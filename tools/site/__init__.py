"""The book's own Sphinx extension. Each module here is a part of it, with a `setup` of its own, and one subject."""

from importlib import import_module
from pkgutil import iter_modules

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}").setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
