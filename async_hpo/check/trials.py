"""Exercise 1.1: the objective, which a few short trials run."""

import builtins
import functools
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import FunctionType
from typing import Any

import pandas as pd
from syne_tune.backend.trial_status import Status
from syne_tune_workers import ForkserverBackend

from async_hpo import FASHION_MNIST
from async_hpo.check.checklist import Checklist
from async_hpo.check.inspections import HYPERPARAMETERS
from async_hpo.paths import SHORT

_SECONDS = 250 if SHORT else 25  # for all trials; a cap alone where the tests run
_FEW, _ALL = 6_000, 60_000  # training images
# Learns quickly: an error and an accuracy cannot be taken for each other.
_EASY = dict(zip(HYPERPARAMETERS, [64, 64, 0.1, 0.1, 0.05, 32], strict=True)) | {"max_epochs": 3}


def objective(f: Callable[..., None], config_space: dict[str, Any]) -> bool:
    """Check an objective for `DropoutMLP` (exercise 1.1) in processes of its own, as on Syne Tune's `PythonBackend`."""
    checks = Checklist("1.1")
    with checks.part("it ends in reasonable time"):
        _check_arguments(checks, f, config_space)
        with _trials(f, config_space) as run:
            _check_trials(checks, run)
    return checks.verdict()


def _check_arguments(checks: Checklist, f: Callable[..., None], space: dict[str, Any]) -> None:
    checks("it is a function", isinstance(f, FunctionType), type(f).__name__, "a function made with def")
    parameters = inspect.signature(f).parameters
    named = [name for name, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
    missing = ", ".join(name for name in _EASY if name not in named and len(named) == len(parameters))
    checks("it takes the hyperparameters and max_epochs", not missing, f"no {missing}")
    lacking = ", ".join(name for name in dict.fromkeys([*_EASY, *named]) if name not in space)
    expected = "every argument of the objective, max_epochs too (a constant)"
    checks("the configuration space has its arguments", not lacking, f"no {lacking}", expected)
    outside = ", ".join(f.__code__.co_freevars)
    checks("it uses nothing that is defined around it", not outside, outside, "all that it needs, inside the function")


@contextmanager
def _trials(f: Callable[..., None], space: dict[str, Any]) -> Iterator[Callable[..., tuple[pd.DataFrame, str]]]:
    """Give a function that runs a trial, with what is to differ from `_EASY`, and returns its reports and its error."""
    # Without globals and defaults, as PythonBackend does it.
    bare = FunctionType(f.__code__, {"__builtins__": builtins}, f.__name__)
    base = {name: value for name, value in space.items() if name not in HYPERPARAMETERS} | _EASY | {"_n_train": _FEW}
    backend = ForkserverBackend(functools.partial(_on_few_images, bare), base, [__name__], [FASHION_MNIST])

    def run(**changes) -> tuple[pd.DataFrame, str]:
        trial_id = backend.start_trial(base | changes).trial_id
        reports, status = [], Status.in_progress
        while status == Status.in_progress:
            if time.monotonic() > end:
                raise TimeoutError(f"it was still running after {_SECONDS} s")
            statuses, new = backend.fetch_status_results([trial_id])
            reports += [report for _, report in new]
            status = statuses[trial_id][1]
        said = backend.stderr(trial_id) or ["it ended without a message"]
        return pd.DataFrame(reports), said[-1].strip() if status == Status.failed else ""

    with tempfile.TemporaryDirectory() as folder:
        backend.set_path(folder)
        end = time.monotonic() + _SECONDS
        backend.warm_up()
        try:
            yield run
        finally:
            backend.stop_all()


def _on_few_images(f: Callable[..., None], /, _n_train: int, **config) -> None:
    """In a trial's process: call `f` with a part of the images; reports tell how many steps it has taken (`_steps`)."""
    import torchvision
    from syne_tune import Reporter
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from async_hpo import data

    def read_few(self, *args, **kwargs) -> None:
        read(self, *args, **kwargs)
        n = sizes["train" if self.train else "test"]
        self.data, self.targets = self.data[:n], self.targets[:n]

    def counted(self, **values) -> None:
        report(self, **values, _steps=len(steps))

    sizes = {"train": _n_train, "validation": 1_000, "test": 1_000}
    data.use({part: (X[: sizes[part]], y[: sizes[part]]) for part, (X, y) in data.arrays().items()})
    read, report, steps = torchvision.datasets.FashionMNIST.__init__, Reporter.__call__, list[int]()
    torchvision.datasets.FashionMNIST.__init__ = read_few  # D2L's own FashionMNIST reads it
    Reporter.__call__ = counted
    register_optimizer_step_post_hook(lambda *_: steps.append(1))
    f(**config)


def _check_trials(checks: Checklist, run: Callable[..., tuple[pd.DataFrame, str]]) -> None:
    """Check what one trial reports and then, while there is time, whether its arguments matter."""
    reports, error = run()
    if error:  # it may count on all images, to split them by itself
        run = functools.partial(run, _n_train=_ALL)
        with suppress(TimeoutError):
            reports, error = run()
    checks("it ends in reasonable time", True)
    expected = "no exception, and all that it needs inside, imports too"
    checks("it runs in a process of its own, by itself", not error, error, expected)
    _check_reports(checks, reports)
    try:
        reports, _ = run(max_epochs=2)
        epochs = [*reports.get("epoch", [])]
        checks("max_epochs decides when it ends", epochs == [1, 2], f"epochs {epochs} with max_epochs=2")
        curve, steps = reports["validation_error"], reports["_steps"].max()
        # On so few images a network learns them by heart, and little about others.
        few, error = run(_n_train=60, lr=0.2, dropout_1=0.0, dropout_2=0.0, batch_size=16, max_epochs=30)
        if not error:  # as when it can't split so few
            best = few["validation_error"].min()
            checks("it validates on images that it was not trained on", best > 0.2, f"{best:.3f}, learnt by heart")
        is_repeatable = run(max_epochs=2)[0]["validation_error"].equals(curve)
        if not is_repeatable:
            print("– the same configuration gave two learning curves: set PyTorch's seed inside, to see them again")
        for name, (value, _, _) in HYPERPARAMETERS.items():
            reports, error = run(**{name: value}, max_epochs=2)
            with checks.part(f"it uses {name}"):
                if error:
                    checks(f"it uses {name}", False, error, f"reports with {name}={value}")
                elif name == "batch_size" and steps:
                    ratio = steps / reports["_steps"].max()
                    seen = f"{ratio:.1f} times as many steps with {_EASY[name]} as with {value}"
                    checks("it uses batch_size", abs(ratio * _EASY[name] / value - 1) < 0.1, seen)
                elif is_repeatable:
                    seen = f"the same learning curve with {name}={value} as with {_EASY[name]}"
                    checks(f"it uses {name}", not reports["validation_error"].equals(curve), seen)
    except TimeoutError:
        print(f"– not checked any further, because {_SECONDS} s were over")


def _check_reports(checks: Checklist, reports: pd.DataFrame) -> None:
    checks("it reports to Syne Tune", len(reports) > 0, "no report")
    found = ", ".join(name for name in reports if not name.startswith(("st_", "_")))
    checks("it reports epoch and validation_error", {"epoch", "validation_error"} <= {*reports}, found)
    epochs, errors, steps = ([*reports[name]] for name in ("epoch", "validation_error", "_steps"))
    checks("it reports after every epoch", epochs == [1, 2, 3], f"epoch = {epochs}", "epoch = [1, 2, 3]")
    # No steps at all: it was not trained by an optimizer of PyTorch's.
    trains = steps[-1] == 0 or all(before < after for before, after in pairwise([0, *steps]))
    checks("it trains between its reports", trains, f"{steps} training steps before the reports")
    right = all(isinstance(error, (int, float)) and 0 <= error <= 1 for error in errors)
    checks("validation_error is a share of images", right, f"{errors}", "numbers between 0 and 1")
    # Guessing errs on 0.9 of the images; this small network gets below 0.4 in three epochs.
    expected = "errors that fall below 0.5; guessing has 0.9, and the error is 1 - accuracy"
    checks("validation_error is an error", errors[-1] < 0.5, f"{errors}", expected)
