"""Exercise 2.1: an environment with the sources of d2l and Syne Tune."""

import json
import os
import subprocess
from pathlib import Path

from async_hpo.check.checklist import Checklist


def environment(python: str | Path) -> bool:
    """Check an environment with the sources of d2l and Syne Tune (exercise 2.1).

    Args:
        python: path of its Python.

    Returns:
        Whether everything holds; what does not is printed.
    """
    checks = Checklist("2.1")
    if not checks("there is a Python", Path(python).is_file(), f"a file {os.path.relpath(python)}", "none"):
        return checks.verdict()
    code = (
        "import json, sys; from importlib.util import find_spec; "
        "found = [find_spec(name) for name in ('d2l', 'syne_tune')]; "
        "print(json.dumps([sys.prefix != sys.base_prefix, *(spec and spec.origin for spec in found)]))"
    )
    run = subprocess.run([python, "-c", code], capture_output=True, text=True)
    is_virtual, *origins = json.loads(run.stdout) if run.returncode == 0 else (True, None, None)
    missing = [name for name, origin in zip(("d2l", "syne_tune"), origins, strict=True) if origin is None]
    if not checks("it finds d2l and syne_tune", not missing, "both", f"no {', '.join(missing)}"):
        return checks.verdict()
    checks("it is a virtual environment", is_virtual, "an environment of its own", "the system's Python")
    for name, origin in zip(("d2l", "syne_tune"), origins, strict=True):
        source = Path(origin).parents[1]
        editable = any((source / file).is_file() for file in ("setup.py", "pyproject.toml"))
        checks(
            f"{name} comes from its source",
            editable,
            "a folder with setup.py or pyproject.toml",
            os.path.relpath(source),
        )
    return checks.verdict()
