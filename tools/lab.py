"""Open the book's notebooks in JupyterLab: `make lab` calls this; options of JupyterLab's may follow.

JupyterLab shows a notebook's stored figures only when it trusts the notebook: those of the clone, whose code the reader
is about to run, are signed first. And it writes the name of its kernel and the version of its Python into every
notebook that it opens, and marks it as changed. So they are there when it looks, and gone when it saves.
"""

import os
import sys
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbformat.sign import NotebookNotary

from tools.notebooks import notebooks, read

KERNEL = "python3"
STORED = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": KERNEL},
    "language_info": {"name": "python"},
}


def as_here() -> dict[str, Any]:
    """What JupyterLab will say of a notebook whose kernel runs in this environment."""
    name = KernelSpecManager().get_kernel_spec(KERNEL).display_name
    return {
        "kernelspec": STORED["kernelspec"] | {"display_name": name},
        "language_info": dict(IPythonKernel.language_info),
    }


class Notebooks(AsyncLargeFileManager):
    async def get(self, path: str, content: bool = True, *args: Any, **options: Any) -> dict[str, Any]:
        model: dict[str, Any] = await super().get(path, content, *args, **options)
        if content and model["type"] == "notebook":
            metadata = model["content"]["metadata"]
            metadata |= {key: value for key, value in as_here().items() if metadata.get(key) == STORED[key]}
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        if model.get("type") == "notebook" and model.get("content"):
            metadata = model["content"]["metadata"]
            metadata |= {key: STORED[key] for key, value in as_here().items() if metadata.get(key) == value}
        saved: dict[str, Any] = await super().save(model, path)
        return saved


def trust() -> None:
    """As `jupyter trust` does."""
    notary = NotebookNotary()
    for path in notebooks():
        notary.sign(read(path))


def main(*options: str) -> None:
    trust()
    ours = ["--ServerApp.contents_manager_class=tools.lab.Notebooks", "--LabApp.default_url=/lab/tree/notebooks"]
    ours += ["--allow-root"] if os.getuid() == 0 else []
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *ours, *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
