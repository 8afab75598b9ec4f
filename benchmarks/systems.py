"""The systems: each runs random search over one float hyperparameter, on two workers, until it is stopped.

A system logs "clock" when its search begins, after what its documentation lets one prepare beforehand. It need not end
by itself: `measure` ends its processes. Each function imports its own library alone.
"""

import os
import secrets
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import objectives
from benchmarks.events import count_images, log

FOREVER = 10_000  # seconds: longer than any budget
_own = threading.local()


# --- Syne Tune -------------------------------------------------------------------------------------------------------


def syne_tune(objective: Callable, name: str, constants: dict, make_backend: Callable, n_workers=2, **options) -> None:
    """Syne Tune's tuner; `options` are the tuner's."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.baselines import RandomSearch

    space = {name: uniform(0.09, 0.11)} | constants
    backend = make_backend(objective, space)
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(space, metrics=["validation_error" if objective is objectives.lenet else "error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=FOREVER),
        n_workers=n_workers,
        max_failures=1000,
        **getattr(backend, "tuner_options", {}),
        **options,
    )
    log("clock")
    tuner.run()


def syne_tune_counted(*args, **options) -> None:
    """The same, and the driver logs how many reports have reached it."""
    from syne_tune.tuner_callback import TunerCallback

    class Received(TunerCallback):
        n = 0

        def on_trial_result(self, *args, **kwargs):
            self.n += 1

        def on_loop_end(self):
            log("received", n=self.n)

    syne_tune(*args, callbacks=[Received()], **options)


def python_backend(objective, space):
    from syne_tune.backend import PythonBackend

    return PythonBackend(tune_function=objective, config_space=space)


def python_backend_allocator(objective, space):
    from syne_tune_workers.worker import ALLOCATOR

    os.environ.update(ALLOCATOR)
    return python_backend(objective, space)


def forkserver(objective, space):
    from async_hpo import FASHION_MNIST, ForkserverBackend

    backend = ForkserverBackend(objective, space, share=[FASHION_MNIST])
    backend.warm_up()
    return backend


def ray_backend(objective, space, address=None):
    from async_hpo import FASHION_MNIST, RayBackend

    backend = RayBackend(objective, space, address=address, share=[FASHION_MNIST])
    backend.warm_up()
    return backend


def ray_backend_on_three_nodes(objective, space):
    """Nodes with a place for one trial each, on this machine."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # read when Ray is imported
    from syne_tune_workers import ray_cluster

    names = ["first", "second", "third"]
    cluster, _ = ray_cluster.local_cluster(names, num_cpus=1, object_store_memory=400 * 2**20)
    backend = ray_backend(objective, space, cluster.address)
    if len(nodes := ray_cluster.alive_nodes()) != len(names):
        raise RuntimeError(f"this would measure {len(nodes)} nodes, not {len(names)}")
    return backend


# --- peers: our objective, their engine ------------------------------------------------------------------------------


def _stand_in(report: Callable[..., None], lenet: Callable | None = None) -> None:
    """Let the objective's `Reporter` hand its numbers to this thread's `report`; a peer need not import Syne Tune."""
    modules: dict[str, Any] = sys.modules  # what stands in is no module
    if lenet is not None:
        modules["async_hpo.chapter"] = types.SimpleNamespace(hpo_objective_lenet_steps=lenet)
    _own.report = report
    modules["syne_tune"] = types.SimpleNamespace(Reporter=lambda: _own.report)


def ray_tune(objective: Callable, name: str, constants: dict, **options) -> None:
    """Ray Tune; `options` are those of `TuneConfig`."""
    import ray
    from ray import cloudpickle, tune

    lenet = _by_value(cloudpickle)

    def trainable(config):
        _stand_in(lambda **values: tune.report(values), lenet)
        objective(**config)

    _start_ray(ray)
    tuner = tune.Tuner(
        trainable,
        param_space={name: tune.uniform(0.09, 0.11)} | constants,
        tune_config=tune.TuneConfig(num_samples=-1, time_budget_s=FOREVER, **options),
        run_config=tune.RunConfig(storage_path=os.environ["BENCH_FOLDER"]),
    )
    log("clock")
    tuner.fit()


def ray_tasks(objective: Callable, name: str, constants: dict) -> None:
    """No tuner at all: Ray's tasks, the next one started when one is done."""
    import random

    import ray
    from ray import cloudpickle

    lenet = _by_value(cloudpickle)

    @ray.remote(num_cpus=1)
    def trial(config):
        _stand_in(lambda **values: None, lenet)
        objective(**config)

    _start_ray(ray)

    def start():
        return trial.remote({name: random.uniform(0.09, 0.11)} | constants)

    log("clock")
    running = [start(), start()]
    while True:
        _, running = ray.wait(running)
        running.append(start())


def _start_ray(ray) -> None:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")


def _by_value(cloudpickle) -> Callable:
    """The book's objective, such that workers are sent its code: importing `async_hpo.chapter` imports Syne Tune."""
    from async_hpo import chapter

    cloudpickle.register_pickle_by_value(chapter)
    return chapter.hpo_objective_lenet_steps


def optuna_threads(objective: Callable, name: str, constants: dict) -> None:
    """Optuna, two threads."""
    _prepare(objective)
    study, run = _optuna(objective, name, constants, storage=None)
    log("clock")
    study.optimize(run, timeout=FOREVER, n_jobs=2)


def optuna_processes(objective: Callable, name: str, constants: dict) -> None:
    """Optuna, two processes on one journal."""
    _two_processes([sys.executable, "-m", "benchmarks.systems", "optuna-process", objective.__name__])


def _two_processes(command: list[str]) -> None:
    """Start two processes, and their search when both have said that they are ready."""
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None  # a pipe, and so is stdin
        process.stdout.readline()
    log("clock")
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        process.wait()


def _wait_for_the_other() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def _optuna_process(objective: Callable, name: str, constants: dict) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _prepare(objective)
    journal = JournalFileBackend(str(Path(os.environ["BENCH_FOLDER"]) / "journal.log"))
    study, run = _optuna(objective, name, constants, storage=JournalStorage(journal))
    _wait_for_the_other()
    study.optimize(run, timeout=FOREVER)


def _optuna(objective: Callable, name: str, constants: dict, storage):
    import optuna

    def run(trial):
        errors: list[Any] = []
        _stand_in(lambda **values: errors.append(values.get("validation_error", values.get("error"))))
        objective(**{name: trial.suggest_float(name, 0.09, 0.11)}, **constants)
        return min(errors, default=0.0)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()
    return optuna.create_study(storage=storage, sampler=sampler, study_name="bench", load_if_exists=True), run


def _prepare(objective: Callable) -> None:
    """What a script imports and reads before it starts its study."""
    if objective is objectives.lenet:
        from async_hpo import chapter, data  # noqa: F401

        data.load()


# --- no tuner --------------------------------------------------------------------------------------------------------


def bare_loops(*_) -> None:
    """The limit: two processes that train and validate, and nothing else."""
    _two_processes([sys.executable, "-m", "benchmarks.systems", "bare-loop"])


def _bare_loop() -> None:
    from async_hpo import chapter, data

    data.load()
    count_images()
    _wait_for_the_other()
    chapter.bare_loop(n_epochs=FOREVER)


# --- what is compared ------------------------------------------------------------------------------------------------


class System(NamedTuple):
    """A function that searches until it is stopped, the objective's constants, and the function's options."""

    run: Callable
    constants: dict[str, Any]
    options: dict[str, Any]


class Benchmark(NamedTuple):
    """What systems are compared by.

    Attributes:
        argument: the name of the hyperparameter.
        budget: of each system, in seconds.
        systems: by their names.
        measures: fields of a result beside those that all have: `images_per_second`, `reports_per_second` (that reach
            the driver), `driver_cpu` (share of a core), `worker_MB`.
    """

    objective: Callable
    argument: str
    budget: float
    systems: dict[str, System]
    measures: frozenset[str] = frozenset()


SHORT_POLLING = {"sleep_time": 0.05}
NO_SLEEP = {"sleep_time": 0}


def _engines(constants: dict) -> dict[str, System]:
    return {
        "Ray Tune": System(ray_tune, constants, {}),
        "Ray Tune, reuse_actors": System(ray_tune, constants, {"reuse_actors": True}),
        "Optuna, n_jobs=2": System(optuna_threads, constants, {}),
        "Optuna, two processes": System(optuna_processes, constants, {}),
    }


def _python(constants: dict, **options) -> System:
    return System(syne_tune, constants, {"make_backend": python_backend, **options})


def _forkserver(constants: dict, **options) -> System:
    return System(syne_tune, constants, {"make_backend": forkserver, **options})


def _on_a_cluster(constants: dict) -> dict[str, System]:
    return {
        "ForkserverBackend": _forkserver(constants, **NO_SLEEP),
        "RayBackend, one node": System(syne_tune, constants, {"make_backend": ray_backend, **NO_SLEEP}),
        "RayBackend, three nodes": System(
            syne_tune, constants, {"make_backend": ray_backend_on_three_nodes, **NO_SLEEP}
        ),
    }


OVERHEAD, REAL_WORK = 30, 45  # seconds

BENCHMARKS: dict[str, Benchmark] = {
    "overhead": Benchmark(
        objectives.one_second,
        "x",
        OVERHEAD,
        {
            "PythonBackend": _python({}),
            "PythonBackend, short polling": _python({}, **SHORT_POLLING),
            **_engines({}),
            "Ray tasks": System(ray_tasks, {}, {}),
            "ForkserverBackend": _forkserver({}),
            "ForkserverBackend, no sleep": _forkserver({}, **NO_SLEEP),
        },
    ),
    "real work": Benchmark(
        objectives.lenet,
        "learning_rate",
        REAL_WORK,
        {
            "D2L's own code": _python(objectives.D2L),
            "no live plot": _python(objectives.NO_LIVE_PLOT),
            "short polling": _python(objectives.NO_LIVE_PLOT, **SHORT_POLLING),
            "images in memory": _python(objectives.IN_MEMORY, **SHORT_POLLING),
            "channels_last": _python(objectives.CHANNELS_LAST, **SHORT_POLLING),
            "one validation": _python(objectives.BEST, **SHORT_POLLING),
            "allocator": System(
                syne_tune, objectives.BEST, {"make_backend": python_backend_allocator, **SHORT_POLLING}
            ),
            "warm workers": _forkserver(objectives.BEST, **NO_SLEEP),
            **_engines(objectives.BEST),
            "two bare loops": System(bare_loops, {}, {}),
        },
        measures=frozenset({"images_per_second"}),
    ),
    "scale": Benchmark(
        objectives.sleeper,
        "x",
        8,
        {
            f"ForkserverBackend, {n}": System(
                syne_tune_counted,
                {"n_reports": 50, "pause": 0.1},
                {"make_backend": forkserver, "n_workers": n, **NO_SLEEP},
            )
            for n in (1, 2, 4, 8, 16, 32, 64)
        },
        measures=frozenset({"reports_per_second", "driver_cpu", "worker_MB"}),
    ),
}

#: The same for `make bench-cluster`: two workers, on one node with two places, and on three nodes with one place each.
CLUSTER: dict[str, Benchmark] = {
    "overhead, cluster": BENCHMARKS["overhead"]._replace(systems=_on_a_cluster({})),
    "real work, cluster": BENCHMARKS["real work"]._replace(systems=_on_a_cluster(objectives.BEST)),
}
#: Comparison -> its benchmarks; the systems of a comparison are measured in one go, in turn.
COMPARISONS = {"benchmarks": BENCHMARKS, "cluster": CLUSTER}


def find(benchmark: str) -> Benchmark:
    """The benchmark of this name, whatever comparison it belongs to."""
    return next(found[benchmark] for found in COMPARISONS.values() if benchmark in found)


def main(benchmark: str, name: str = "") -> None:
    if benchmark == "bare-loop":
        _bare_loop()
    elif benchmark == "optuna-process":
        chosen = next(found for found in BENCHMARKS.values() if found.objective.__name__ == name)
        _optuna_process(chosen.objective, chosen.argument, chosen.systems["Optuna, two processes"].constants)
    else:
        chosen = find(benchmark)
        system = chosen.systems[name]
        system.run(chosen.objective, chosen.argument, system.constants, **system.options)


if __name__ == "__main__":
    from benchmarks import systems  # by its name: other processes import what they are sent from there

    systems.main(*sys.argv[1:])
