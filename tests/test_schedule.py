import math
import random
import time

import numpy as np
import pandas as pd
import pytest

from async_hpo.schedule import expected_maximum, schedule


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


def by_small_steps(durations, n_workers, gap, slowdown, step=1e-4):
    """A brute-force schedule in which busy workers slow each other down: the clock goes in small steps."""
    waiting, left, starts, ends, clock = list(enumerate(durations)), {}, {}, {}, 0.0
    while waiting or left:
        for worker in range(n_workers):
            if worker not in left and waiting:
                trial, duration = waiting.pop(0)
                starts[trial] = clock
                left[worker] = [trial, duration, gap]
        speed = 1 / (1 + slowdown * (len(left) - 1))
        for worker, (trial, work, rest) in list(left.items()):
            if work > 0:
                left[worker][1] = work - step * speed
                if left[worker][1] <= 0:
                    ends[trial] = clock + step
            else:
                left[worker][2] = rest - step * speed
            if left[worker][1] <= 0 and left[worker][2] <= 0:
                del left[worker]
        clock += step
    return pd.DataFrame({"start": starts, "end": ends})


@pytest.mark.parametrize("gap, slowdown", [(0.0, 0.3), (0.2, 0.0), (0.2, 0.3)])
def test_gap_and_slowdown_match_brute_force(gap, slowdown):
    durations = [1.3, 2.0, 0.7, 1.1, 2.9, 0.6, 1.7]
    plan = schedule(durations, 3, gap=gap, slowdown=slowdown)
    expected = by_small_steps(durations, 3, gap, slowdown)
    assert plan.start.to_numpy() == pytest.approx(expected.start.to_numpy(), abs=0.01)
    assert plan.end.to_numpy() == pytest.approx(expected.end.to_numpy(), abs=0.01)


@pytest.mark.parametrize("n_workers", range(2, 17))
def test_waiting_costs_what_the_longest_of_a_batch_takes(n_workers):
    """Steady throughput: K / E[T] without waiting, K / E[max of K] with it."""
    times = np.random.default_rng(n_workers).lognormal(sigma=0.8, size=200)
    drawn = np.random.default_rng(0).choice(times, 20_000)
    makespan = {wait: schedule(drawn, n_workers, synchronous=wait).end.max() for wait in (True, False)}
    predicted = expected_maximum(times, n_workers) / times.mean()
    assert makespan[True] / makespan[False] == pytest.approx(predicted, rel=0.05)


def test_expected_maximum_of_two_by_hand():
    assert expected_maximum([1, 2, 4], 2) == pytest.approx((1 + 2 * 3 + 4 * 5) / 9)
    assert expected_maximum([1, 2, 4], 1) == pytest.approx(7 / 3)


@pytest.mark.parametrize("n_workers", [1, 8, 64])
def test_a_long_schedule_ends_with_every_trial(n_workers):
    drawn = np.random.default_rng(0).exponential(size=5000)
    plan = schedule(drawn, n_workers, gap=0.01, slowdown=0.1)
    # What the workers do, undisturbed: never less than the work and never more than the slowest of times for all of it.
    slowest = 1 + 0.1 * (n_workers - 1)
    assert (plan.end - plan.start >= drawn - 1e-9).all() and (plan.end - plan.start <= drawn * slowest + 1e-9).all()
    for _, rows in plan.groupby("worker"):
        waits = rows.start.to_numpy()[1:] - rows.end.to_numpy()[:-1]
        assert (waits >= 0.01 - 1e-9).all() and (waits <= 0.01 * slowest + 1e-9).all(), "the gap, and no more"


@pytest.mark.idle
def test_many_long_schedules_are_quick():
    """30 seeds and 9 worker counts of 5,000 trials have to take less than a minute."""
    drawn = np.random.default_rng(0).exponential(size=5000)
    begin = time.process_time()
    for n_workers in (1, 8, 64):
        schedule(drawn, n_workers, gap=0.01, slowdown=0.1)
    assert (time.process_time() - begin) / 3 * 30 * 9 < 60


@pytest.mark.parametrize("option", ["gap", "slowdown"])
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_wrong_gap_or_slowdown_is_refused_by_its_name(option, value):
    with pytest.raises(ValueError, match=f"{option} must be finite and not negative"):
        schedule([1.0], 2, **{option: value})
