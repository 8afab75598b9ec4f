"""The checks accept every right answer, however it is written, and name the fault of a wrong one."""

import json
import random
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from syne_tune.config_space import choice, logfinrange, loguniform, quniform, randint, uniform
from syne_tune.optimizer.schedulers.searchers.random_searcher import RandomSearcher
from syne_tune.optimizer.schedulers.searchers.single_objective_searcher import SingleObjectiveBaseSearcher

from async_hpo import check
from async_hpo.check.checklist import Checklist
from async_hpo.solutions import LocalSearcher, dropoutmlp_config_space, hpo_objective_dropoutmlp_synetune

# The functions of the same names stand before these modules.
of_objective, of_searcher = (import_module(f"async_hpo.check.{name}") for name in ("objective", "searcher"))

SPACE = dropoutmlp_config_space
OUTSIDE = 10


def assert_named(capsys, passed, *words):
    """The check failed, and says so in these words."""
    out = capsys.readouterr().out
    assert passed is False and "The hint is below exercise" in out
    found = [line for line in out.splitlines() if all(word in line for word in words)]
    assert found, f"no line with {words} in:\n{out}"


def assert_passed(capsys, passed):
    out = capsys.readouterr().out
    assert passed is True and "✗" not in out, out


# --- the configuration space -----------------------------------------------------------------------------------------

RIGHT_SPACES = {
    "ours": SPACE,
    "uniform": {
        "num_hiddens_1": randint(8, 1024),
        "num_hiddens_2": randint(8, 1024),
        "dropout_1": quniform(0, 0.95, 0.05),
        "dropout_2": uniform(0, 0.95),
        "lr": loguniform(1e-5, 1),
        "batch_size": randint(16, 384),
        "max_epochs": 50,
    },
    "listed": {
        "num_hiddens_1": choice([2**k for k in range(3, 11)]),
        "num_hiddens_2": logfinrange(8, 1024, 8, cast_int=True),
        "dropout_1": choice([0.0, 0.25, 0.5, 0.75, 0.95]),
        "dropout_2": uniform(0, 0.95),
        "lr": choice([0.001, 0.01, 0.1, 1.0]),
        "batch_size": choice([16, 32, 64, 128, 256, 384]),
    },
}


@pytest.mark.parametrize("name", RIGHT_SPACES)
def test_right_spaces_pass(capsys, name):
    assert_passed(capsys, check.config_space(RIGHT_SPACES[name]))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"lr": loguniform(1e-4, 0.05)}, ["✗ lr can be the default, 0.1"]),
        ({"num_hiddens_1": randint(8, 128)}, ["✗ num_hiddens_1 can be the default, 256"]),
        ({"batch_size": choice([16, 32, 384])}, ["✗ batch_size can be the default, 256"]),
        ({"num_hiddens_2": uniform(8, 1024)}, ["✗ num_hiddens_2 takes whole numbers"]),
        ({"dropout_1": uniform(0, 1)}, ["seen", "0 to 1"]),
        ({"dropout_2": 0.5}, ["✗ dropout_2 is drawn from a distribution"]),
        ({"lr": uniform(1e-3, 1)}, ["✗ lr is drawn by its order of magnitude"]),
        ({"lr": choice(["small", "large"])}, ["✗ lr takes numbers"]),
        ({"momentum": uniform(0, 1)}, ["seen", "momentum"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_spaces_are_refused(capsys, change, words):
    assert_named(capsys, check.config_space(SPACE | change), *words)


def test_empty_starters_are_told_what_is_missing(capsys):
    assert_named(capsys, check.config_space({}), "seen", "no num_hiddens_1, num_hiddens_2")
    assert_named(capsys, check.config_space(...), "expected", "a dict")
    assert_named(capsys, check.objective(..., {}), "expected", "a function")
    assert_named(capsys, check.objective(lambda max_epochs: None, {"max_epochs": 2}), "seen", "no num_hiddens_1")
    assert_named(capsys, check.searcher(...), "expected", "a class")

    class Empty(SingleObjectiveBaseSearcher):
        def __init__(self, config_space, probab_local, num_init_random, points_to_evaluate=None, random_seed=None):
            super().__init__(config_space, points_to_evaluate, random_seed)

    assert_named(capsys, check.searcher(Empty), "suggest is not implemented")


# --- the objective ---------------------------------------------------------------------------------------------------


def plain_pytorch(batch_size, lr, dropout_1, dropout_2, num_hiddens_1, num_hiddens_2, max_epochs):
    """Right: without d2l, with tensors in place of data loaders."""
    import torch
    from syne_tune import Reporter

    from async_hpo.data import load

    torch.manual_seed(7)
    torch.set_num_threads(1)
    (X, y), (X_val, y_val), _ = load().values()
    layers = []
    for n_in, n_out, rate in ((784, num_hiddens_1, dropout_1), (num_hiddens_1, num_hiddens_2, dropout_2)):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU(), torch.nn.Dropout(rate)]
    net = torch.nn.Sequential(torch.nn.Flatten(), *layers, torch.nn.Linear(num_hiddens_2, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    reporter = Reporter()
    for epoch in range(max_epochs):
        net.train()
        for batch in torch.randperm(len(X)).split(batch_size):
            loss = torch.nn.functional.cross_entropy(net(X[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            wrong = (net(X_val).argmax(dim=1) != y_val).float().mean()
        reporter(epoch=epoch + 1, validation_error=float(wrong), loss=float(loss))


def unseeded_trainer(max_epochs, batch_size, **hyperparameters):
    """Right: D2L's trainer as the chapter uses it, and no seed."""
    import torch
    from d2l import torch as d2l
    from syne_tune import Reporter
    from torch import nn

    from async_hpo.data import FashionMNIST

    class MLP(d2l.Classifier):
        def __init__(self, num_hiddens_1, num_hiddens_2, dropout_1, dropout_2, lr):
            super().__init__()
            self.save_hyperparameters()
            self.hidden_1, self.hidden_2 = nn.LazyLinear(num_hiddens_1), nn.LazyLinear(num_hiddens_2)
            self.out = nn.LazyLinear(10)
            self.drop_1, self.drop_2 = nn.Dropout(dropout_1), nn.Dropout(dropout_2)

        def forward(self, X):
            H = self.drop_1(torch.relu(self.hidden_1(X.flatten(1))))
            return self.out(self.drop_2(torch.relu(self.hidden_2(H))))

    torch.set_num_threads(1)
    model = MLP(**hyperparameters)
    model.board.display = False
    trainer = d2l.HPOTrainer(max_epochs=1, num_gpus=1)
    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        if epoch == 1:
            trainer.fit(model=model, data=FashionMNIST(batch_size=batch_size))
        else:
            trainer.fit_epoch()
        report(epoch=epoch, validation_error=trainer.validation_error().item())


@pytest.mark.slow
@pytest.mark.parametrize("f", [hpo_objective_dropoutmlp_synetune, plain_pytorch, unseeded_trainer])
def test_right_objectives_pass(capsys, f):
    assert_passed(capsys, check.objective(f, SPACE))


SOURCE = """
def objective(num_hiddens_1, num_hiddens_2, dropout_1, dropout_2, lr, batch_size, max_epochs):
    import torch
    from async_hpo.data import load
    from syne_tune import Reporter
    {start}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (X, y), (X_val, y_val), _ = load().values()
    linear, relu, dropout = torch.nn.Linear, torch.nn.ReLU, torch.nn.Dropout
    hidden_1 = linear(784, num_hiddens_1), relu(), dropout(dropout_1)
    hidden_2 = linear(num_hiddens_1, num_hiddens_2), relu(), dropout(dropout_2)
    net = torch.nn.Sequential(torch.nn.Flatten(), *hidden_1, *hidden_2, linear(num_hiddens_2, {classes}))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    report, kept = Reporter(), []
    for epoch in range(1, {last} + 1):
        net.train()
        for batch in torch.randperm(len(X)).split(batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(X[batch]), y[batch]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            accuracy = float((net(X_val).argmax(dim=1) == y_val).float().mean())
        kept.append({value})
        {inside}report(epoch=epoch, validation_error=kept[-1])
    {end}
"""


def written(start="", classes="10", last="max_epochs", value="1 - accuracy", inside="", end="pass"):
    """An objective of its own, right unless a part of it is exchanged."""
    names = {"OUTSIDE": OUTSIDE}
    exec(SOURCE.format(start=start, classes=classes, last=last, value=value, inside=inside, end=end), names)
    return names["objective"]


FAULTS = {
    "only at the end": (
        written(inside="if epoch == max_epochs: "),
        ["seen", "1 report, with epoch = 3: only at the end"],
    ),
    "all at the end": (
        written(inside="0 and ", end="[report(epoch=k + 1, validation_error=e) for k, e in enumerate(kept)]"),
        ["seen", "564, 564, 564 training steps before the reports"],
    ),
    "uses a global": (written(classes="OUTSIDE"), ["seen", "the global name 'OUTSIDE'"]),
    "no report": (written(inside="0 and "), ["seen", "no report"]),
    "raises": (written(start="raise OSError('no disk')"), ["seen", "OSError: no disk"]),
}


@pytest.mark.slow
def test_the_objective_that_the_faults_are_put_into_is_right(capsys):
    assert_passed(capsys, check.objective(written(), SPACE))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_objectives_are_refused(capsys, fault):
    f, words = FAULTS[fault]
    assert_named(capsys, check.objective(f, SPACE), *words)


@pytest.mark.slow
def test_all_that_an_objective_ignores_is_named(capsys):
    f = written(start="batch_size, dropout_2 = 64, 0.5", last="3")
    assert check.objective(f, SPACE) is False
    out = capsys.readouterr().out
    for seen in ("batch_size is ignored", "dropout_2 is ignored", "epochs [1, 2, 3]"):
        assert any("seen" in line and seen in line for line in out.splitlines()), out
    assert "✗ it uses lr" not in out and "✓ it uses lr" in out


@pytest.mark.slow
def test_an_objective_that_does_not_end_is_stopped(capsys, monkeypatch):
    monkeypatch.setattr(of_objective, "_SECONDS", 1)
    f = written(start="import time; time.sleep(600)")
    assert_named(capsys, check.objective(f, SPACE), "seen", "it was still running")


@pytest.mark.slow
def test_a_slow_objective_is_checked_as_far_as_time_allows(capsys, monkeypatch):
    """By a clock that stands still, but for 100 s with every trial that ends."""
    ended = []

    class Ended(of_objective._Ended):
        def __init__(self, *args):
            super().__init__(*args)
            ended.append(self)

    monkeypatch.setattr(of_objective, "_Ended", Ended)
    monkeypatch.setattr(of_objective, "time", SimpleNamespace(monotonic=lambda: 100.0 * len(ended), sleep=time.sleep))
    monkeypatch.setattr(of_objective, "_SECONDS", 250)
    assert check.objective(written(), SPACE) is True
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "not checked, because 250 s were over" in line]
    late = note.split(": ")[1].split(", ")
    assert late and len(late) + len(ended) == 1 + len(
        {"max_epochs", "again", of_objective._FEW, *of_objective._CHANGED}
    )


def ended(errors=(0.5, 0.4, 0.3), epochs=(1, 2, 3), steps=(10, 20, 30), stderr=None):
    """A trial as it is seen after its end, made by hand. `stderr`: it failed with these lines."""
    metrics = [{"epoch": k, "validation_error": e, "st_x": 0} for k, e in zip(epochs, errors, strict=True)]
    stdout = [] if steps is None else ["something else\n", f"{of_objective._TAG}{json.dumps([*steps])}\n"]
    return of_objective._Ended(metrics, stderr is not None, stdout, stderr or [])


def judged(look, *args):
    checks = Checklist("1.1")
    look(checks, *args)
    return checks.verdict()


@pytest.mark.parametrize("errors", [(0.5, 0.4, 0.3), (0.49, 0.49, 0.49), (0.2, 0.3, 0.4), (1.0, 0.6, 0)])
@pytest.mark.parametrize("steps", [(10, 20, 30), (0, 0, 0), None], ids=str)
def test_right_reports_pass_with_or_without_a_torch_optimizer(capsys, errors, steps):
    assert_passed(capsys, judged(of_objective._reports_every_epoch, ended(errors, steps=steps), 3))


@pytest.mark.parametrize(
    "trial, words",
    [
        (ended((), ()), ["seen", "no report"]),
        (ended([0.5], [3]), ["seen", "1 report, with epoch = 3: only at the end"]),
        (ended([0.5] * 2, [1, 2]), ["seen", "2 reports, with epoch = 1, 2: one epoch too few"]),
        (ended(epochs=(0, 1, 2)), ["seen", "3 reports, with epoch = 0, 1, 2"]),
        (ended(steps=(30, 30, 30)), ["seen", "30, 30, 30 training steps before the reports"]),
        (ended(steps=(0, 10, 20)), ["seen", "0, 10, 20 training steps"]),
        (ended((0.5, 0.7, 0.8)), ["seen", "0.500, 0.700, 0.800, rising: is it the accuracy?"]),
        (ended((0.9, 0.9, 0.8)), ["seen", "it does not learn"]),
        (ended((0.6, 0.5, 0.5)), ["✗ validation_error is an error"]),
        (ended((50.0, 40.0, 30.0)), ["expected", "numbers between 0 and 1"]),
        (ended((-0.1, 0.4, 0.3)), ["expected", "numbers between 0 and 1"]),
        (ended(("a", 0.4, 0.3)), ["seen", "'a', 0.400, 0.300"]),
    ],
)
def test_wrong_reports_are_named(capsys, trial, words):
    assert_named(capsys, judged(of_objective._reports_every_epoch, trial, 3), *words)


def test_a_report_without_its_metric_is_named(capsys):
    trial = ended()
    del trial.reports[1]["validation_error"]
    trial.reports[1]["loss"] = 1.0
    assert_named(capsys, judged(of_objective._reports_every_epoch, trial, 3), "seen", "epoch, loss, validation_error")


@pytest.mark.parametrize(
    "stderr, words",
    [
        (["Traceback\n", "NameError: name 'width' is not defined\n"], ["seen", "the global name 'width'"]),
        (["Traceback\n", "OSError: no disk\n"], ["seen", "OSError: no disk"]),
        ([], ["seen", "it ended without a message"]),
    ],
)
def test_a_failure_is_named_by_its_last_line(capsys, stderr, words):
    assert_named(capsys, judged(of_objective._runs_alone, ended(stderr=stderr)), *words)


def all_trials(**changes):
    """A trial of each configuration: every hyperparameter changes the errors, a batch of 128 takes fewer steps."""
    trials = {"": ended(), "again": ended()}
    trials |= {name: ended((0.6, 0.5, 0.4)) for name in of_objective._CHANGED}
    return trials | {"batch_size": ended(steps=(2, 5, 8))} | changes


def test_every_hyperparameter_that_is_used_passes(capsys):
    assert_passed(capsys, judged(of_objective._uses_every_hyperparameter, all_trials()))
    few = {name: trial for name, trial in all_trials().items() if name != "lr"}
    assert_passed(capsys, judged(of_objective._uses_every_hyperparameter, few))  # time was over


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": ended()}, ["seen", "the same one: lr is ignored"]),
        ({"dropout_1": ended(stderr=["ValueError: no\n"])}, ["seen", "ValueError: no"]),
        ({"batch_size": ended()}, ["seen", "1.0 times as many: batch_size is ignored"]),
        ({"batch_size": ended(steps=(5, 10, 15))}, ["seen", "2.0 times as many"]),
        ({"batch_size": ended(steps=None)}, ["✗ it uses batch_size"]),
    ],
)
def test_a_hyperparameter_that_is_not_used_is_named(capsys, changes, words):
    assert_named(capsys, judged(of_objective._uses_every_hyperparameter, all_trials(**changes)), *words)


def test_an_objective_that_cannot_be_repeated_is_not_wrong(capsys):
    trials = all_trials(again=ended((0.5, 0.4, 0.31)), lr=ended())
    assert judged(of_objective._uses_every_hyperparameter, trials) is True
    out = capsys.readouterr().out
    assert "– the same configuration gave two learning curves: set PyTorch's seed" in out and "✓ it uses lr" not in out


class Trials:
    """In place of the processes of trials: each takes 4 s by this clock, and ends as it is given here."""

    def __init__(self, monkeypatch, **trials):
        self.given, self.asked, self.seconds, self.now = trials, {}, [], 1000.0
        monkeypatch.setattr(of_objective, "_trials", self)
        monkeypatch.setattr(of_objective, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(of_objective, "_SECONDS", 60)

    def __call__(self, f, configs, space, seconds):
        self.asked |= configs
        self.seconds.append(seconds)
        self.now += 4
        return {name: self.given[name] for name in configs if name in self.given}


def right_trials(**changes):
    few = {of_objective._FEW: ended((0.8, 0.5, 0.4))}
    return all_trials(max_epochs=ended((0.5, 0.4), (1, 2), (10, 20))) | few | changes


def takes_all(**config):
    raise AssertionError("it is called in other processes alone")


def test_an_objective_is_asked_for_one_change_at_a_time(capsys, monkeypatch):
    trials = Trials(monkeypatch, **right_trials())
    assert_passed(capsys, check.objective(takes_all, SPACE | {"a_constant": 5}))
    assert trials.seconds == [60, 56], "for all of them together"
    base = trials.asked[""]
    assert base["max_epochs"] == 3 and base["a_constant"] == 5
    assert trials.asked.pop(of_objective._FEW)["_n_train"] == 60
    for name, config in trials.asked.items():
        changed = [key for key in base if config[key] != base[key]]
        assert set(config) == set(base) and changed == ([] if name in ("", "again") else [name])
        for key, (low, high, whole) in of_objective.RANGES.items():
            assert (low or 0) <= config[key] <= (high or 1) and (not whole or isinstance(config[key], int))
    assert set(trials.asked) == {"", "again", "max_epochs", *of_objective.RANGES}
    assert trials.asked["max_epochs"]["max_epochs"] == 2


def test_an_objective_that_ignores_max_epochs_is_named(capsys, monkeypatch):
    Trials(monkeypatch, **right_trials(max_epochs=ended()))
    words = ["seen", "epochs [1, 2, 3]"]
    assert_named(capsys, check.objective(takes_all, SPACE), *words)


@pytest.mark.parametrize(
    "first, words",
    [
        (None, ["seen", "it was still running"]),
        (ended(stderr=["OSError: no disk\n"]), ["seen", "OSError: no disk"]),
        (ended((), ()), ["seen", "no report"]),
    ],
)
def test_no_other_trial_runs_where_the_first_was_wrong(capsys, monkeypatch, first, words):
    trials = Trials(monkeypatch, **({} if first is None else {"": first}))
    assert_named(capsys, check.objective(takes_all, SPACE), *words)
    assert set(trials.asked) == {""}


def test_what_was_learnt_by_heart_is_no_validation_error(capsys, monkeypatch):
    Trials(monkeypatch, **right_trials(**{of_objective._FEW: ended((0.8, 0.3, 0.05))}))
    assert check.objective(takes_all, SPACE) is False
    assert "✗ it validates on images that it was not trained on" in capsys.readouterr().out
    Trials(monkeypatch, **right_trials(**{of_objective._FEW: ended(stderr=["IndexError: too few to split\n"])}))
    assert check.objective(takes_all, SPACE) is True
    assert "not checked: whether the validation images" in capsys.readouterr().out


def test_trials_for_which_time_was_over_are_told_and_not_wrong(capsys, monkeypatch):
    given = right_trials()
    del given["max_epochs"], given["lr"]
    Trials(monkeypatch, **given)
    assert_passed(capsys, check.objective(takes_all, SPACE))
    Trials(monkeypatch, **given)
    check.objective(takes_all, SPACE)
    assert "– not checked, because 60 s were over: max_epochs, lr\n" in capsys.readouterr().out
    del given["again"]
    Trials(monkeypatch, **given)
    assert check.objective(takes_all, SPACE) is True, "then nothing says whether a configuration can be repeated"


@pytest.mark.parametrize(
    "f, space, words",
    [
        (print, SPACE, ["seen", "builtin_function_or_method"]),
        (
            lambda lr, max_epochs: None,
            SPACE,
            ["seen", "no num_hiddens_1, num_hiddens_2, dropout_1, dropout_2, batch_size"],
        ),
        (lambda momentum, **others: None, SPACE, ["seen", "no momentum"]),
        (lambda **all_: None, [1], ["✗ the configuration space is a dictionary"]),
        (lambda **all_: OUTSIDE, {"lr": 1}, ["seen", "no num_hiddens_1"]),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(capsys, f, space, words):
    assert_named(capsys, check.objective(f, space), *words)


def test_what_is_defined_around_an_objective_is_named(capsys):
    number = OUTSIDE

    def objective(num_hiddens_1, num_hiddens_2, dropout_1, dropout_2, lr, batch_size, max_epochs):
        print(number)

    assert_named(capsys, check.objective(objective, SPACE), "seen", "number")


def test_an_argument_that_the_space_lacks_is_named(capsys):
    space = {name: domain for name, domain in SPACE.items() if name != "max_epochs"}
    assert_named(capsys, check.objective(plain_pytorch, space), "seen", "no max_epochs")


# --- comparisons and the environment ---------------------------------------------------------------------------------


def runs_of(by, values, n_repetitions=3, n_parallel=None, seconds=100):
    """Reports of runs, made by hand: trials of two reports each, 10 s apart, one after the other on each worker."""
    rows = []
    for value in values:
        for repetition in range(n_repetitions):
            for trial in range(12):
                start = trial // (n_parallel or value) * 20 if by == "n_workers" else trial * 20
                for seconds_ in (start + 5, start + 15):
                    rows.append((value, repetition, trial, seconds_, random.random()))
    frame = pd.DataFrame(rows, columns=[by, "repetition", "trial", "time", "validation_error"])
    return frame[frame.time < seconds]


def test_comparisons_that_can_be_compared_pass(capsys):
    assert_passed(capsys, check.comparison(runs_of("method", ["a", "b"]), "method", ["a", "b"], "1.2"))
    assert_passed(capsys, check.comparison(runs_of("n_workers", [1, 2, 4], seconds=60), "n_workers", [1, 2, 4], "1.3"))


def test_workers_and_their_trials_are_counted(capsys):
    check.comparison(runs_of("n_workers", [1, 4]), "n_workers", [1, 4], "1.3")
    out = capsys.readouterr().out
    assert "1 worker run" in out and "1 trial at a time" in out and "4 workers run 4 trials at a time" in out


@pytest.mark.parametrize(
    "reports, words",
    [
        (None, ["expected", "a pandas DataFrame"]),
        (runs_of("method", ["a", "b"]).drop(columns="time"), ["seen", "no time"]),
        (runs_of("method", ["a"]), ["seen", "no b"]),
        (runs_of("method", ["a", "b"], n_repetitions=1), ["seen", "a: 1, b: 1"]),
        (runs_of("method", ["a", "b"]).assign(validation_error=0.5), ["✗ repetitions differ"]),
        (runs_of("method", ["a", "b"]).assign(validation_error=50), ["✗ validation_error is a share"]),
        (
            pd.concat([runs_of("method", ["a"]), runs_of("method", ["b"], seconds=40)]),
            ["✗ all have the same budget"],
        ),
    ],
)
def test_comparisons_that_are_not_fair_are_refused(capsys, reports, words):
    assert_named(capsys, check.comparison(reports, "method", ["a", "b"], "1.2"), *words)


def test_workers_that_do_not_work_at_the_same_time_are_refused(capsys):
    reports = runs_of("n_workers", [1, 2, 4], n_parallel=2)
    assert_named(capsys, check.comparison(reports, "n_workers", [1, 2, 4], "1.3"), "seen", "up to 2")


def test_environments_without_the_sources_are_refused(capsys, tmp_path):
    assert_named(capsys, check.environment(tmp_path / "python"), "✗ there is a Python")
    assert_named(capsys, check.environment(sys.executable), "✗ d2l comes from its source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    assert_named(capsys, check.environment(tmp_path / "venv" / "bin" / "python"), "✗ it finds d2l and syne_tune")


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Clones of d2l and Syne Tune, which every Python finds."""
    for name in ("d2l", "syne_tune"):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "__init__.py").touch()
    (tmp_path / "d2l" / "setup.py").touch()
    (tmp_path / "syne_tune" / "pyproject.toml").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'd2l'}:{tmp_path / 'syne_tune'}")
    return tmp_path


def test_an_environment_with_both_sources_passes(capsys, sources):
    assert_passed(capsys, check.environment(sys.executable))


def test_an_environment_of_which_one_source_is_no_clone_is_named(capsys, sources):
    (sources / "syne_tune" / "pyproject.toml").unlink()
    passed = check.environment(sys.executable)
    out = capsys.readouterr().out
    assert not passed and "✗ syne_tune comes from its source" in out and "✓ d2l comes from its source" in out


def test_the_systems_python_is_named(capsys, sources):
    python = Path(sys.base_prefix, "bin", "python3")
    assert_named(capsys, check.environment(python), "✗ it is a virtual environment")


# --- the searcher ----------------------------------------------------------------------------------------------------


class OnTopOfRandomSearcher(RandomSearcher):
    """Right: random draws are the base class's; NumPy's global generator."""

    def __init__(self, config_space, probab_local, num_init_random, points_to_evaluate=None):
        super().__init__(config_space, points_to_evaluate=points_to_evaluate)
        self.probab_local, self.left = probab_local, num_init_random
        self.best = None, float("inf")

    def suggest(self):
        fresh = super().suggest()
        self.left -= 1
        config, _ = self.best
        if self.left >= 0 or config is None or np.random.rand() > self.probab_local:
            return fresh
        name = np.random.choice([name for name in config if hasattr(self.config_space[name], "sample")])
        return {**config, name: fresh[name]}

    def on_trial_complete(self, trial_id, config, metric):
        if metric < self.best[1]:
            self.best = config, metric


class WithAHistory(SingleObjectiveBaseSearcher):
    """Right: keeps all reports and Python's own generator; initial configurations come on top of the random ones."""

    def __init__(self, config_space, probab_local, num_init_random, **options):
        super().__init__(config_space, **options)
        self.domains = {name: value for name, value in config_space.items() if hasattr(value, "sample")}
        self.probab_local, self.num_init_random = probab_local, num_init_random
        self.random, self.history, self.n_random = random.Random(self.random_seed), [], 0

    def draw(self, name):
        state = np.random.RandomState(self.random.getrandbits(32))
        return self.domains[name].sample(random_state=state)

    def suggest(self):
        if first := self._next_points_to_evaluate():
            return first
        if self.n_random >= self.num_init_random and self.history and self.random.random() < self.probab_local:
            config = dict(sorted(self.history, key=lambda entry: entry[0])[0][1])
            name = self.random.choice(sorted(self.domains))
            config[name] = self.draw(name)
            return config
        self.n_random += 1
        return {name: self.draw(name) for name in self.domains}

    def on_trial_result(self, trial_id, config, metric):
        self.history.append((metric, config))


@pytest.mark.slow
@pytest.mark.parametrize("S", [LocalSearcher, OnTopOfRandomSearcher, WithAHistory])
def test_right_searchers_pass(capsys, S):
    assert_passed(capsys, check.searcher(S))


class ChangesTwo(LocalSearcher):
    def suggest(self):
        config = super().suggest()
        if self.num_suggestions > self.num_init_random and self.best_of_trial:
            name = self.random_state.choice(of_searcher._NAMES)
            config = config | {name: self._draw(name)}
        return config


class NeverExplores(LocalSearcher):
    def __init__(self, config_space, probab_local, *args, **options):
        super().__init__(config_space, 1.0, *args, **options)


class NeverStays(LocalSearcher):
    def __init__(self, config_space, probab_local, *args, **options):
        super().__init__(config_space, 0.0, *args, **options)


class SkipsTheInitialConfigurations(LocalSearcher):
    def _next_points_to_evaluate(self):
        return None


class KeepsTheWorst(LocalSearcher):
    def on_trial_result(self, trial_id, config, metric):
        super().on_trial_result(trial_id, config, -metric)

    on_trial_complete = on_trial_result


class StartsTooSoon(LocalSearcher):
    def __init__(self, config_space, probab_local, num_init_random, **options):
        super().__init__(config_space, probab_local, 2, **options)


class BelievesTheLastResult(LocalSearcher):
    def on_trial_result(self, trial_id, config, metric):
        self.best_of_trial = {0: (metric, config)}

    on_trial_complete = on_trial_result


class CountsArrivals(LocalSearcher):
    """Takes the n-th result for that of the n-th suggestion."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.suggested, self.seen = [], []

    def suggest(self):
        self.suggested.append(super().suggest())
        return dict(self.suggested[-1])

    def on_trial_complete(self, trial_id, config, metric):
        config = {name: self.suggested[len(self.seen)][name] for name in config}
        self.seen.append(metric)
        self.best_of_trial[len(self.seen)] = (metric, config)

    def on_trial_result(self, trial_id, config, metric):
        pass


class TakesTheLastSuggestion(CountsArrivals):
    def on_trial_complete(self, trial_id, config, metric):
        config = {name: self.suggested[-1][name] for name in config}
        self.best_of_trial[trial_id] = (metric, config)


class NeedsEveryResult(LocalSearcher):
    def on_trial_error(self, trial_id):
        del self.best_of_trial[trial_id]


class NeedsABest(LocalSearcher):
    def suggest(self):
        config = super().suggest()
        if self.num_suggestions > self.num_init_random:
            min(self.best_of_trial.values(), key=lambda pair: pair[0])
        return config


class ForgetsTheSecond(LocalSearcher):
    """Near the best it never draws `b` anew."""

    def suggest(self):
        config = super().suggest()
        if self.num_suggestions > self.num_init_random and self.best_of_trial:
            _, best = min(self.best_of_trial.values(), key=lambda pair: pair[0])
            if [name for name in best if best[name] != config[name]] == ["b"]:
                config["b"] = best["b"]
        return config


class Perturbs(LocalSearcher):
    def suggest(self):
        config = super().suggest()
        if self.best_of_trial and self.num_suggestions > self.num_init_random:
            _, best = min(self.best_of_trial.values(), key=lambda pair: pair[0])
            if [name for name in best if best[name] != config[name]] == ["a"]:
                config["a"] = best["a"] * 0.9 + config["a"] * 0.1
        return config


class StopsSuggesting(LocalSearcher):
    """Only a real run is long enough to see it."""

    def suggest(self):
        if len(self.best_of_trial) == 12:
            raise IndexError("no more")
        return super().suggest()


def looked_at(S, *parts):
    """The verdict of some parts of the check: all but the real run take no time."""
    checks = Checklist("2.2")
    np.random.seed(0)
    random.seed(0)
    for part in parts:
        of_searcher._guarded(checks, part, S)
    return checks.verdict()


@pytest.mark.parametrize("S", [LocalSearcher, OnTopOfRandomSearcher, WithAHistory])
def test_right_searchers_pass_what_comes_before_the_run(capsys, S):
    parts = (
        of_searcher._starts,
        of_searcher._stays_near_the_best,
        of_searcher._bears_disorder,
        of_searcher._bears_failures,
    )
    assert of_searcher._can_be_made(Checklist("2.2"), S)
    assert_passed(capsys, looked_at(S, *parts))


DISORDER = ["✗ it is not fooled by results that arrive out of order"]
FAULTY_SEARCHERS = [
    (ChangesTwo, of_searcher._stays_near_the_best, ["seen", "change 2 hyperparameters"]),
    (NeverExplores, of_searcher._stays_near_the_best, ["seen", "it never explores"]),
    (NeverStays, of_searcher._stays_near_the_best, ["seen", "none near any earlier trial"]),
    (SkipsTheInitialConfigurations, of_searcher._starts, ["✗ it suggests the initial configurations first"]),
    (KeepsTheWorst, of_searcher._stays_near_the_best, ["seen", "near trial 5, whose error is 0.95, the worst"]),
    (StartsTooSoon, of_searcher._starts, ["✗ it starts at random"]),
    (BelievesTheLastResult, of_searcher._bears_disorder, DISORDER),
    (CountsArrivals, of_searcher._bears_disorder, DISORDER),
    (TakesTheLastSuggestion, of_searcher._bears_disorder, DISORDER),
    (NeedsEveryResult, of_searcher._bears_failures, ["✗ it goes on when trials fail"]),
    (NeedsABest, of_searcher._bears_failures, ["✗ it goes on when trials fail"]),
    (Perturbs, of_searcher._stays_near_the_best, ["✗ it draws anew from the whole range"]),
    (ForgetsTheSecond, of_searcher._stays_near_the_best, ["seen", "b 0 times"]),
]


@pytest.mark.parametrize("S, part, words", FAULTY_SEARCHERS)
def test_faulty_searchers_are_refused(capsys, S, part, words):
    assert_named(capsys, looked_at(S, part), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "S, words",
    [
        (NeedsABest, ["✗ it goes on when trials fail"]),
        (StopsSuggesting, ["seen", "IndexError: no more"]),
    ],
)
def test_faulty_searchers_are_refused_with_all_else_that_is_checked(capsys, S, words):
    assert_named(capsys, check.searcher(S), *words)


@pytest.mark.slow
def test_checks_leave_the_readers_random_numbers_alone(capsys):
    np.random.seed(3)
    random.seed(3)
    expected = np.random.rand(), random.random()
    np.random.seed(3)
    random.seed(3)
    check.searcher(KeepsTheWorst)
    assert (np.random.rand(), random.random()) == expected
