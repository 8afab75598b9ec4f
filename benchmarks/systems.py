"""The systems: each runs random search over one float hyperparameter, on two workers, until it is stopped.

A system logs "clock" when its search begins, after what its documentation lets one prepare beforehand. It need not end
by itself: `measure` ends its processes. Each function imports its own library alone.
"""

import multiprocessing
import os
import secrets
import sys
import threading
import types
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import workloads
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
        scheduler=RandomSearch(space, metrics=["validation_error" if objective is workloads.lenet else "error"]),
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
    from ray import tune

    lenet = _start_ray()

    def trainable(config):
        _stand_in(lambda **values: tune.report(values), lenet)
        objective(**config)

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

    lenet = _start_ray()

    @ray.remote(num_cpus=1)
    def trial(config):
        _stand_in(lambda **values: None, lenet)
        objective(**config)

    def start():
        return trial.remote({name: random.uniform(0.09, 0.11)} | constants)

    log("clock")
    running = [start(), start()]
    while True:
        _, running = ray.wait(running)
        running.append(start())


def _start_ray() -> Callable:
    """Start Ray, and return the book's objective. Workers are sent its code: to import `async_hpo.chapter` would be to
    import Syne Tune."""
    import ray

    from async_hpo import chapter

    ray.cloudpickle.register_pickle_by_value(chapter)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    return chapter.hpo_objective_lenet_steps


def optuna_threads(objective: Callable, name: str, constants: dict) -> None:
    """Optuna, two threads."""
    study, run = _optuna(objective, name, constants, storage=None)
    log("clock")
    study.optimize(run, timeout=FOREVER, n_jobs=2)


def optuna_processes(objective: Callable, name: str, constants: dict) -> None:
    """Optuna, two processes on one journal."""
    _two_processes(_optuna_process, objective, name, constants)


def _optuna_process(ready: Barrier, objective: Callable, name: str, constants: dict) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = JournalFileBackend(str(Path(os.environ["BENCH_FOLDER"]) / "journal.log"))
    study, run = _optuna(objective, name, constants, storage=JournalStorage(journal))
    ready.wait()
    study.optimize(run, timeout=FOREVER)


def _two_processes(search: Callable, *arguments) -> None:
    """Call `search` in two processes. The clock starts when both wait at the barrier, which is its first argument."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2, partial(log, "clock"))
    processes = [context.Process(target=search, args=(ready, *arguments)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _optuna(objective: Callable, name: str, constants: dict, storage):
    """A study, and the function that it is to run. All is imported and read before, as a script would do."""
    import optuna

    if objective is workloads.lenet:
        from async_hpo import chapter, data  # noqa: F401

        data.load()

    def run(trial):
        errors: list[Any] = []
        _stand_in(lambda **values: errors.append(values.get("validation_error", values.get("error"))))
        objective(**{name: trial.suggest_float(name, 0.09, 0.11)}, **constants)
        return min(errors, default=0.0)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()
    return optuna.create_study(storage=storage, sampler=sampler, study_name="bench", load_if_exists=True), run


# --- no tuner --------------------------------------------------------------------------------------------------------


def bare_loops(*_) -> None:
    """The limit: two processes that train and validate, and nothing else."""
    _two_processes(_bare_loop)


def _bare_loop(ready: Barrier) -> None:
    from async_hpo import chapter, data

    data.load()
    count_images()
    ready.wait()
    chapter.bare_loop(n_epochs=FOREVER)


# --- what is compared ------------------------------------------------------------------------------------------------


class Benchmark(NamedTuple):
    """What systems are compared by.

    Attributes:
        argument: the name of the hyperparameter.
        budget: of each system, in seconds.
        systems: by their names; each is called with `objective` and `argument`.
        measures: fields of a result beside those that all have: `images_per_second`, `reports_per_second` (that reach
            the driver).
    """

    objective: Callable
    argument: str
    budget: float
    systems: dict[str, partial]
    measures: tuple[str, ...] = ()


SHORT_POLLING: dict[str, Any] = {"sleep_time": 0.05}
NO_SLEEP: dict[str, Any] = {"sleep_time": 0}
_python = partial(syne_tune, make_backend=python_backend)
_forkserver = partial(syne_tune, make_backend=forkserver)


def _engines(constants: dict) -> dict[str, partial]:
    return {
        "Ray Tune": partial(ray_tune, constants=constants),
        "Ray Tune, reuse_actors": partial(ray_tune, constants=constants, reuse_actors=True),
        "Optuna, n_jobs=2": partial(optuna_threads, constants=constants),
        "Optuna, two processes": partial(optuna_processes, constants=constants),
    }


def _on_a_cluster(constants: dict) -> dict[str, partial]:
    backends = {
        "ForkserverBackend": forkserver,
        "RayBackend, one node": ray_backend,
        "RayBackend, three nodes": ray_backend_on_three_nodes,
    }
    search = partial(syne_tune, constants=constants, **NO_SLEEP)
    return {name: partial(search, make_backend=make) for name, make in backends.items()}


BENCHMARKS: dict[str, Benchmark] = {
    "overhead": Benchmark(
        workloads.one_second,
        "x",
        30,
        {
            "PythonBackend": partial(_python, constants={}),
            "PythonBackend, short polling": partial(_python, constants={}, **SHORT_POLLING),
            **_engines({}),
            "Ray tasks": partial(ray_tasks, constants={}),
            "ForkserverBackend": partial(_forkserver, constants={}),
            "ForkserverBackend, no sleep": partial(_forkserver, constants={}, **NO_SLEEP),
        },
    ),
    "real work": Benchmark(
        workloads.lenet,
        "learning_rate",
        45,
        {
            "D2L's own code": partial(_python, constants=workloads.D2L),
            "no live plot": partial(_python, constants=workloads.NO_LIVE_PLOT),
            "short polling": partial(_python, constants=workloads.NO_LIVE_PLOT, **SHORT_POLLING),
            "images in memory": partial(_python, constants=workloads.IN_MEMORY, **SHORT_POLLING),
            "channels_last": partial(_python, constants=workloads.CHANNELS_LAST, **SHORT_POLLING),
            "one validation": partial(_python, constants=workloads.BEST, **SHORT_POLLING),
            "allocator": partial(
                syne_tune, constants=workloads.BEST, make_backend=python_backend_allocator, **SHORT_POLLING
            ),
            "warm workers": partial(_forkserver, constants=workloads.BEST, **NO_SLEEP),
            **_engines(workloads.BEST),
            "two bare loops": partial(bare_loops),
        },
        measures=("images_per_second",),
    ),
    "scale": Benchmark(
        workloads.sleeper,
        "x",
        8,
        {
            f"ForkserverBackend, {n}": partial(
                syne_tune_counted,
                constants={"n_reports": 50, "pause": 0.1},
                make_backend=forkserver,
                n_workers=n,
                **NO_SLEEP,
            )
            for n in (1, 2, 4, 8, 16, 32, 64)
        },
        measures=("reports_per_second",),
    ),
}

#: The same for `make bench-cluster`: two workers, on one node with two places, and on three nodes with one place each.
CLUSTER: dict[str, Benchmark] = {
    "overhead, cluster": BENCHMARKS["overhead"]._replace(systems=_on_a_cluster({})),
    "real work, cluster": BENCHMARKS["real work"]._replace(systems=_on_a_cluster(workloads.BEST)),
}
#: Comparison -> its benchmarks; the systems of a comparison are measured in one go, in turn.
COMPARISONS = {"benchmarks": BENCHMARKS, "cluster": CLUSTER}


def find(benchmark: str) -> Benchmark:
    """The benchmark of this name, whatever comparison it belongs to."""
    return (BENCHMARKS | CLUSTER)[benchmark]


def main(benchmark: str, system: str) -> None:
    chosen = find(benchmark)
    chosen.systems[system](chosen.objective, chosen.argument)


if __name__ == "__main__":
    from benchmarks import systems  # by its name: other processes import from there what they are sent

    systems.main(*sys.argv[1:])
