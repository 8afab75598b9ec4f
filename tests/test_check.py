"""The checks accept every right answer, however it is written, and name the fault of a wrong one."""

import gzip
import inspect
import itertools
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from syne_tune.config_space import choice, logfinrange, loguniform, quniform, randint, uniform
from syne_tune.optimizer.schedulers.searchers.random_searcher import RandomSearcher
from syne_tune.optimizer.schedulers.searchers.single_objective_searcher import SingleObjectiveBaseSearcher

from async_hpo import check
from async_hpo.check import trials
from async_hpo.check.checklist import Checklist
from async_hpo.fetch import RAW
from async_hpo.solutions import LocalSearcher, dropoutmlp_config_space, hpo_objective_dropoutmlp_synetune

SPACE = dropoutmlp_config_space


def assert_judged(capsys, passed, fault=None):
    """All of it holds; or the fault stands in a claim that does not hold, or in what was seen."""
    out = capsys.readouterr().out
    assert passed is (fault is None) and ("✗" in out) is not passed, out
    assert out.endswith("All of it holds.\n") is passed and ("The hint is below exercise" in out) is not passed
    assert passed or any(fault in line and line.startswith(("✗", "    seen")) for line in out.splitlines()), out


@pytest.mark.parametrize(
    "change, fault",
    [
        ({}, None),
        ({"num_hiddens_1": randint(8, 1024), "dropout_1": quniform(0, 0.95, 0.05), "lr": uniform(0.05, 0.5)}, None),
        ({"num_hiddens_1": logfinrange(8, 1024, 8, cast_int=True), "lr": choice([0.001, 0.01, 0.1, 1.0])}, None),
        ({"num_hiddens_2": choice([8, 256, 1024]), "dropout_2": choice([0.0, 0.5, 0.95])}, None),
        ({"lr": loguniform(1e-4, 0.05)}, "lr can be the default, 0.1"),
        ({"lr": loguniform(0.2, 1)}, "lr can be the default, 0.1"),
        ({"batch_size": choice([16, 32, 384])}, "batch_size can be the default, 256"),
        ({"num_hiddens_1": randint(8, 512)}, "num_hiddens_1 has its range"),
        ({"num_hiddens_1": randint(16, 1024)}, "num_hiddens_1 has its range"),
        ({"num_hiddens_2": uniform(8, 1024)}, "num_hiddens_2 takes whole numbers"),
        ({"dropout_2": 0.5}, "dropout_2 is drawn from a distribution"),
        ({"lr": uniform(0, 1)}, "lr is positive"),
        ({"lr": uniform(1e-3, 1)}, "lr is drawn by its order of magnitude"),
        ({"lr": choice([True, False])}, "lr takes numbers"),
        ({"momentum": uniform(0, 1)}, "momentum"),
    ],
)
def test_configuration_spaces_are_judged(capsys, change, fault):
    assert_judged(capsys, check.config_space(SPACE | change), fault)


def test_empty_starters_are_told_what_is_missing(capsys):
    assert_judged(capsys, check.config_space({}), "no num_hiddens_1, num_hiddens_2")
    assert_judged(capsys, check.searcher(...), "it is a class")
    assert_judged(capsys, check.searcher(SingleObjectiveBaseSearcher), "unexpected keyword argument 'probab_local'")
    empty = type("Empty", (LocalSearcher,), {"suggest": SingleObjectiveBaseSearcher.suggest})
    assert_judged(capsys, check.searcher(empty), "suggest is not implemented")


def runs_of(by, values, n_repetitions=3, n_parallel=None, seconds=60):
    """Reports of runs, made by hand: trials of two reports each, 10 s apart, one after the other on each worker."""
    rows = []
    for value in values:
        for repetition in range(n_repetitions):
            for trial in range(12):
                start = trial // (n_parallel or value) * 20 if by == "n_workers" else trial * 20
                rows += [(value, repetition, trial, start + late, random.random()) for late in (5, 15)]
    frame = pd.DataFrame(rows, columns=[by, "repetition", "trial", "time", "validation_error"])
    return frame[frame.time < seconds]


BOTH = runs_of("method", ["a", "b"])


@pytest.mark.parametrize(
    "reports, fault",
    [
        (BOTH, None),
        (pd.concat([BOTH, runs_of("method", ["c"], 1)]), None),
        (BOTH.astype({"method": "category"}), None),
        (None, "it is a table"),
        (BOTH.drop(columns="time"), "no time"),
        (runs_of("method", ["a"]), "no ['b']"),
        (pd.concat([runs_of("method", ["a"]), runs_of("method", ["b"], 1)]), "every one is repeated"),
        (BOTH.assign(validation_error=0.5), "repetitions differ"),
        (BOTH.assign(validation_error=50 * BOTH.validation_error), "validation_error is a share"),
        (BOTH.assign(validation_error="low"), "its columns hold numbers"),
        (pd.concat([runs_of("method", ["a"]), runs_of("method", ["b"], seconds=30)]), "all have the same budget"),
    ],
)
def test_comparisons_are_judged(capsys, reports, fault):
    assert_judged(capsys, check.comparison(reports, "method", ["a", "b"], "1.2"), fault)


@pytest.mark.parametrize(
    "n_parallel, fault", [(None, None), (2, "n_workers=1: so many trials"), (1, "n_workers=2: so many trials")]
)
def test_workers_have_to_work_at_the_same_time(capsys, n_parallel, fault):
    reports = runs_of("n_workers", [1, 2, 4], n_parallel=n_parallel)
    assert_judged(capsys, check.comparison(reports, "n_workers", [1, 2, 4], "1.3"), fault)


def test_an_environment_needs_the_sources(capsys, monkeypatch, tmp_path):
    assert_judged(capsys, check.environment(tmp_path / "python"), "there is a Python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    assert_judged(capsys, check.environment(tmp_path / "venv" / "bin" / "python"), "no d2l, syne_tune")
    for name, file in (("d2l", "setup.py"), ("syne_tune", "pyproject.toml")):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "__init__.py").touch()
        (tmp_path / name / file).touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'd2l'}:{tmp_path / 'syne_tune'}")
    assert_judged(capsys, check.environment(sys.executable))
    assert_judged(capsys, check.environment(Path(sys.base_prefix, "bin", "python3")), "it is a virtual environment")
    (tmp_path / "syne_tune" / "pyproject.toml").unlink()
    assert_judged(capsys, check.environment(sys.executable), "syne_tune comes from its source")


def changed(**replaced):
    """The solution's objective with other text in place of the texts that are named."""
    source = inspect.getsource(hpo_objective_dropoutmlp_synetune)
    for name, new in replaced.items():
        assert source.count(TEXTS[name]) == 1
        source = source.replace(TEXTS[name], new)
    names = {"OUTSIDE": 10}
    exec(source, names)
    return names[hpo_objective_dropoutmlp_synetune.__name__]


TEXTS = {
    "start": "torch.manual_seed(0)",
    "dropout": "Dropout(dropout_2)",
    "images": "self.val_dataloader = validation",
    "report": "report = Reporter()",
    "error": "self.validation_error().item()",
    "fit": "trainer.fit(model, FashionMNIST(batch_size=batch_size))",
}
AT_THE_END = {
    "report": "kept = []; report = lambda **values: kept.append(values)",
    "fit": f"{TEXTS['fit']}; report = Reporter(); [report(**values) for values in kept]",
}
ALL = """
    import torchvision
    from torch.utils.data import DataLoader, random_split
    images = torchvision.datasets.FashionMNIST(ROOT, train=True, transform=torchvision.transforms.ToTensor())
    train, val = random_split(images, [50_000, 10_000])
    data = d2l.DataModule()
    data.train_dataloader = lambda: DataLoader(train, batch_size, shuffle=True)
    data.val_dataloader = lambda: DataLoader(val, 500)
    trainer.fit(model, data)
"""


@pytest.fixture
def all_images(tmp_path):
    """As torchvision unpacks them."""
    for file in RAW.glob("*.gz"):
        path = tmp_path / "FashionMNIST" / "raw" / file.stem
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.decompress(file.read_bytes()))
    return ALL.replace("ROOT", repr(str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "replaced, fault",
    [
        ({}, None),
        ({"start": "pass"}, None),
        ({"fit": "all"}, None),
        ({"fit": "all", "images": "self.val_dataloader = self.train_dataloader"}, "it validates on images that"),
        (AT_THE_END, "[564, 564, 564] training steps before the reports"),
        ({"start": "OUTSIDE"}, "name 'OUTSIDE' is not defined"),
        ({"start": "import time; time.sleep(600)"}, "still running after 1 s"),
        ({"report": "report = dict"}, "without a report"),
        ({"error": "self.validation_error()"}, "[None, None, None]"),
        ({"images": "self.val_dataloader = self.train_dataloader"}, "it validates on images that"),
        ({"images": "self.model.eval = lambda: None; self.val_dataloader = validation"}, "dropout was on"),
        ({"fit": "trainer.fit(model, FashionMNIST(min(batch_size, 64)))"}, "it uses batch_size"),
        ({"start": "pass", "dropout": "Dropout(0.5)"}, "it uses dropout_2"),
    ],
)
def test_objectives_are_judged_by_their_trials(capsys, monkeypatch, all_images, replaced, fault):
    if "sleep" in replaced.get("start", ""):
        monkeypatch.setattr(trials, "_SECONDS", 1)
    if replaced.get("fit") == "all":
        replaced |= {"fit": all_images.strip()}
    assert_judged(capsys, check.objective(changed(**replaced), SPACE), fault)


@pytest.mark.parametrize(
    "f, space, fault",
    [
        (print, SPACE, "it is a function"),
        (lambda lr, max_epochs: None, SPACE, "no num_hiddens_1, num_hiddens_2, dropout_1, dropout_2, batch_size"),
        (lambda momentum, **others: None, SPACE, "no momentum"),
        (lambda **all_: None, {}, "no num_hiddens_1"),
        ((lambda number: lambda **all_: number)(10), SPACE, "number"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(capsys, f, space, fault):
    assert_judged(capsys, check.objective(f, space), fault)


def reports(errors=(0.5, 0.4, 0.3), epochs=(1, 2, 3), steps=(8, 16, 24), metric="validation_error", **more):
    more = {"_output": "1", "_dropped": False} | more
    return pd.DataFrame({"epoch": epochs, metric: errors, "_steps": steps} | more)


LATE = TimeoutError("late")
ONE, OTHER = reports([0.5], [1], [8]), reports([0.6], [1], [1])


def judged(**trial_of):
    """The verdict on trials made by hand: right ones, but for those whose first changed argument is named here.

    A trial is its reports, its error, or what `run` raises.
    """
    given = dict.fromkeys(trials._EASY, OTHER) | {"max_epochs": reports((0.5, 0.4), (1, 2), (8, 16)), "again": ONE}
    given |= {"": reports(), "_whole": reports(), "other_seed": ONE, "_noise": reports((0.9, 0.8, 0.9))} | trial_of

    def run(**changes):
        name = next((name for name in changes if name != "_whole"), "_whole" if changes else "")
        if changes.get("max_epochs") == 1 and name in ("max_epochs", "_seed"):
            name = "other_seed" if "_seed" in changes else "again"
        trial = given[name]
        if isinstance(trial, Exception):
            raise trial
        return (pd.DataFrame(), trial) if isinstance(trial, str) else (trial, "")

    checks = Checklist("1.1")
    with checks.part("it ends in reasonable time"):
        trials._check_trials(checks, run)
    return checks.verdict()


def first(*args, **more):
    """A first trial that is the same with all images."""
    return dict.fromkeys(["", "_whole"], reports(*args, **more))


@pytest.mark.parametrize(
    "trial_of, fault",
    [
        ({}, None),
        (first((0.2, 0.3, 0.4)), None),
        (first((1, 0.6, 0), steps=(0, 0, 0)), None),
        ({"": reports((math.nan,) * 3)}, None),
        ({"": reports((0.01, 0.01, 0.01))}, None),
        ({"": "ValueError: Sum of input lengths"}, None),
        ({"": "ValueError: Sum of input lengths", "_whole": LATE}, None),
        ({"max_epochs": reports((0.5, 0.4), (1, 2), (0, 0)), "batch_size": OTHER}, None),
        ({"max_epochs": reports((0.5, 0.4), (1, 2), (0, 0)), "batch_size": ONE}, "same learning curve with batch_size"),
        ({"": LATE}, "TimeoutError: late"),
        ({"": "OSError: no disk", "_whole": "OSError: no disk"}, "OSError: no disk"),
        (first((), (), ()), "it reports to Syne Tune"),
        (first(metric="loss"), "epoch, loss"),
        (first([0.3], [3], [24]), "epoch = [3]"),
        (first(epochs=(0, 1, 2)), "epoch = [0, 1, 2]"),
        (first(steps=(24, 24, 24)), "[24, 24, 24] training steps"),
        (first(steps=(0, 8, 16)), "[0, 8, 16] training steps"),
        (first(steps=(8, 24, 48)), "[8, 16, 24] steps"),
        (first((0.9, 0.6, 0.5)), "validation_error is an error"),
        (first((0.5, 0.4, 1.1)), "validation_error is a share"),
        (first((-0.1, 0.4, 0.3)), "validation_error is a share"),
        (first(("a", 0.4, 0.3)), "validation_error is a share"),
        (first([None] * 3), "[None, None, None]"),
        (first(_dropped=True), "dropout was on"),
        ({"max_epochs": reports()}, "epochs [1, 2, 3] with max_epochs=2"),
        ({"_noise": reports((0.5, 0.05, 0.3))}, "0.050"),
        ({"_noise": reports((0.9, 2.3, 3.4))}, "3.400"),
        ({"lr": ONE}, "the same learning curve with lr=0.1"),
        ({"dropout_1": "ValueError: no"}, "ValueError: no"),
        ({"batch_size": ONE}, "1.0 times as many steps"),
        ({"batch_size": reports([0.6], [1], [2])}, "4.0 times as many steps"),
    ],
)
def test_trials_are_judged(capsys, trial_of, fault):
    assert_judged(capsys, judged(**trial_of), fault)


def test_what_cannot_be_seen_of_an_objective_is_not_wrong(capsys):
    assert judged(_noise="too few to split") is True
    assert judged(other_seed=OTHER, again=OTHER, lr=ONE) is True
    out = capsys.readouterr().out
    assert "two learning curves: set PyTorch's seed" in out and "✓ it uses batch_size" in out
    assert judged(other_seed=OTHER, lr=ONE) is False
    capsys.readouterr()
    assert judged(max_epochs=LATE) is True and judged(lr=LATE) is True
    assert capsys.readouterr().out.count("– not checked any further") == 2


class OnTopOfRandomSearcher(RandomSearcher):
    """Right: random draws are the base class's, with NumPy's global generator; only a trial's last result counts."""

    def __init__(self, config_space, probab_local, points_to_evaluate=None, **options):
        super().__init__(config_space, points_to_evaluate=points_to_evaluate)
        self.probab_local, self.left, self.best = probab_local, options["num_init_random"], (math.inf, None)

    def suggest(self):
        fresh = super().suggest()
        self.left -= 1
        if self.left >= 0 or self.best[1] is None or np.random.rand() > self.probab_local:
            return fresh
        name = np.random.choice(list(self.best[1]))
        return {**self.best[1], name: fresh[name]}

    def on_trial_complete(self, trial_id, config, metric):
        self.best = min(self.best, (metric, config), key=lambda pair: pair[0])


@pytest.mark.parametrize("S", [LocalSearcher, OnTopOfRandomSearcher])
def test_right_searchers_pass(capsys, S):
    assert_judged(capsys, check.searcher(S))


def remembers(results):
    """`LocalSearcher`'s methods, if it remembers `results(trial_id, config, metric)`."""

    def on_trial_result(self, *result):
        self.best_of_trial |= results(*result)

    return {"on_trial_result": on_trial_result, "on_trial_complete": on_trial_result}


def suggests(changes):
    """Its `suggest`, if suggestions near the best change by `changes(searcher, best, name)`, too."""

    def suggest(self):
        config = LocalSearcher.suggest(self)
        _, best = min(self.best_of_trial.values(), key=lambda pair: pair[0], default=(0, config))
        names = [name for name in best if best[name] != config[name]]
        return config | (changes(self, best, names[0]) if len(names) == 1 else {})

    return {"suggest": suggest}


TICK = itertools.count()


def one_of(searcher, i):
    return {"abcd"[i % 4]: searcher._draw("abcd"[i % 4])}


def ends(searcher, name):
    domain = searcher.config_space[name]
    return (domain.lower, domain.upper) if name in "abcd" else (7, 7)


@pytest.mark.parametrize(
    "methods, options, fault",
    [
        ({}, {"probab_local": 1}, "it explores with probability"),
        ({}, {"probab_local": 0.5}, "it explores with probability"),
        ({}, {"probab_local": 0}, "none near an earlier one"),
        ({}, {"num_init_random": 2}, "it starts at random"),
        ({}, {"num_init_random": 9}, "9 of the first 19"),
        ({}, {"points_to_evaluate": None}, "it suggests the initial configurations first"),
        (remembers(lambda trial_id, config, metric: {trial_id: (-metric, config)}), {}, "near trial 5 with 0.9"),
        (remembers(lambda trial_id, config, metric: {0: (metric, config)}), {}, "near trial 4 with 0.2"),
        (remembers(lambda trial_id, config, metric: {}), {}, "none near an earlier one"),
        (remembers(lambda trial_id, config, metric: {trial_id: (metric or 9, config)}), {}, "near trial 1 with 0.1"),
        ({"on_trial_error": lambda self, trial_id: self.best_of_trial.pop(trial_id)}, {}, "KeyError"),
        ({"on_trial_error": lambda self, trial_id: self.best_of_trial.clear()}, {}, "it moves on to a better"),
        ({"_draw": lambda self, name: {}[name] if len(self.best_of_trial) == 10 else self.draw(name)}, {}, "KeyError"),
        ({"_draw": lambda self, name: uniform(*ends(self, name)).sample()}, {}, "it draws b anew"),
        (
            {"_next_points_to_evaluate": lambda self: self.initial.pop(0) if self.initial else None},
            {},
            "points_to_evaluate as it",
        ),
        (suggests(lambda self, best, name: {"d": self._draw("d")}), {}, "up to 2 change"),
        (suggests(lambda self, best, name: {"b": best["b"]}), {}, "no constant"),
        (suggests(lambda self, best, name: {"a": best["a"] * 0.99} if name == "a" else {}), {}, "it draws a anew"),
        (suggests(lambda self, best, name: {"a": 3.0} if name == "a" else {}), {}, "a=3.0"),
        (
            suggests(lambda self, best, name: best | one_of(self, next(TICK))),
            {},
            "chance decides",
        ),
    ],
)
def test_wrong_searchers_are_refused(capsys, methods, options, fault):
    def __init__(self, config_space, **arguments):
        LocalSearcher.__init__(self, config_space, **(arguments | options))
        self.initial = arguments["points_to_evaluate"]

    methods |= {"__init__": __init__, "draw": LocalSearcher._draw}
    assert_judged(capsys, check.searcher(type("Wrong", (LocalSearcher,), methods)), fault)


def test_our_searcher_forgets_failed_trials_and_repeats_with_its_seed():
    initial = [{"a": i / 4, "b": 0.5, "c": 0.5} for i in range(4)]
    space = dict.fromkeys("abc", uniform(0, 1))
    searcher = LocalSearcher(space, 1.0, 2, initial, 0)
    assert [searcher.suggest() for _ in initial] == initial, "more than the first random ones"
    for trial_id, error in ((1, 0.5), (3, 0.1), (0, 0.9), (1, 0.7), (2, math.nan), (3, 0.8)):
        searcher.on_trial_result(trial_id, initial[trial_id], error)
    assert distance(searcher, initial[3]) <= 1
    searcher.on_trial_error(3)  # though it had the best report
    assert distance(searcher, initial[1]) <= 1
    first, again, other = (LocalSearcher(space, 1.0, 2, random_seed=seed).suggest() for seed in (3, 3, 4))
    assert first == again != other


def distance(searcher, config):
    return max(sum(config[name] != value for name, value in searcher.suggest().items()) for _ in range(30))
