import math
import random

import pytest

from async_hpo.simulation import schedule


def by_ticks(durations, n_workers):
    """A brute-force asynchronous schedule: whole-second durations, the clock goes tick by tick."""
    waiting, running, starts, clock = list(enumerate(durations)), {}, {}, 0
    while waiting or running:
        running = {worker: end for worker, end in running.items() if end > clock}
        for worker in range(n_workers):
            if worker not in running and waiting:
                trial, duration = waiting.pop(0)
                starts[trial] = clock
                if duration:
                    running[worker] = clock + duration
        clock += 1
    return [starts[trial] for trial in range(len(durations))]


@pytest.mark.parametrize("n_workers", [1, 2, 3, 7])
def test_asynchronous_schedule_matches_brute_force(n_workers):
    durations = [random.Random(n_workers).randint(1, 20) for _ in range(60)]
    plan = schedule(durations, n_workers)
    assert list(plan.start) == by_ticks(durations, n_workers)
    assert list(plan.end - plan.start) == durations
    assert plan.worker.between(0, n_workers - 1).all()
    for _, rows in plan.groupby("worker"):
        assert (rows.start.to_numpy()[1:] >= rows.end.to_numpy()[:-1]).all(), "one trial at a time"


def test_synchronous_batches_wait_for_the_straggler():
    plan = schedule([3, 4, 5, 2, 8, 1, 7], n_workers=3, synchronous=True)
    assert list(plan.start) == [0, 0, 0, 5, 5, 5, 13]
    assert list(plan.worker[:6]) == [0, 1, 2, 0, 1, 2]


def test_no_trials_give_an_empty_plan():
    assert list(schedule([], 2).columns) == ["trial", "worker", "start", "end"]


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2", True, None])
def test_wrong_number_of_workers_is_refused(n_workers):
    with pytest.raises(ValueError, match="n_workers must be a whole number"):
        schedule([1.0], n_workers)


@pytest.mark.parametrize("duration", [-1, math.nan, math.inf])
def test_wrong_duration_is_refused_by_its_trial(duration):
    with pytest.raises(ValueError, match="trial 1"):
        schedule([1.0, duration], 2)
