"""What a fork server imports before it forks its first trial (see `forkserver_backend`). A fresh process does, too.

`ASYNC_HPO_PRELOAD` names what to prepare, as a JSON list of `module` or `module:function`; a function is called.
"""

import gc
import json
import os
import pkgutil
import sys
import traceback

#: The traceback of what failed, empty if nothing did. Raised in no server: a trial that asks finds it here.
problem = ""

try:
    for name in json.loads(os.environ.get("ASYNC_HPO_PRELOAD", "[]")):
        found = pkgutil.resolve_name(name)
        if ":" in name:
            found()
except Exception:
    problem = traceback.format_exc()

# A spare fork (see `take` there) whose driver is killed finds nothing to do, and need not complain. `_run` undoes this.
sys.excepthook = lambda kind, *rest: None if kind is EOFError else sys.__excepthook__(kind, *rest)

# What is here now stays: the garbage collector of a trial need not touch it, and so its pages stay shared.
gc.collect()
gc.freeze()
