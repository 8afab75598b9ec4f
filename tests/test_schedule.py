import math
import random

import pytest

from async_hpo.schedule import expected_maximum, idle_share, schedule


def by_ticks(durations, n_workers):
    """A brute-force asynchronous schedule: whole-second durations, the clock goes tick by tick."""
    waiting, running, starts, clock = [*durations], {}, [], 0
    while waiting:
        running = {worker: end for worker, end in running.items() if end > clock}
        for worker in range(n_workers):
            if worker not in running and waiting:
                starts.append(clock)
                running[worker] = clock + waiting.pop(0)
        clock += 1
    return starts


@pytest.mark.parametrize("n_workers", [1, 2, 3, 7])
def test_asynchronous_schedule_matches_brute_force(n_workers):
    durations = [random.Random(n_workers).randint(1, 20) for _ in range(60)]
    plan = schedule(durations, n_workers)
    assert list(plan.start) == by_ticks(durations, n_workers)
    assert list(plan.end - plan.start) == durations
    assert plan.worker.between(0, n_workers - 1).all()
    for _, rows in plan.groupby("worker"):
        assert (rows.start.to_numpy()[1:] >= rows.end.to_numpy()[:-1]).all(), "one trial at a time"


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2", True, None])
def test_wrong_number_of_workers_is_refused(n_workers):
    with pytest.raises(ValueError, match="n_workers must be a whole number"):
        schedule([1.0], n_workers)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["the duration of trial 1", "gap", "slowdown"])
def test_wrong_seconds_are_refused_by_their_name(name, value):
    numbers = {"the duration of trial 1": 1.0, "gap": 0.0, "slowdown": 0.0} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
        schedule([1.0, numbers.pop("the duration of trial 1")], 2, **numbers)


@pytest.mark.parametrize(
    "durations, n_workers, options, starts, ends",
    [
        ([], 2, {"slowdown": 0.5}, [], []),
        ([3, 4, 5, 2, 8, 1, 7], 3, {"synchronous": True}, [0, 0, 0, 5, 5, 5, 13], [3, 4, 5, 7, 13, 6, 20]),
        ([1, 2, 4], 3, {"slowdown": 0.5}, [0, 0, 0], [2, 3.5, 5.5]),
        ([2, 4, 1], 2, {"gap": 1}, [0, 0, 3], [2, 4, 4]),
        ([2, 4, 1], 2, {"gap": 1, "slowdown": 0.5}, [0, 0, 4.5], [3, 6, 6]),
        ([2, 4, 1], 2, {"gap": 1, "slowdown": 0.5, "synchronous": True}, [0, 0, 6.5], [3, 5.5, 7.5]),
    ],
)
def test_batches_gap_and_slowdown_by_hand(durations, n_workers, options, starts, ends):
    """A batch waits for its straggler. A worker is busy during the gap, too, and slows the others down."""
    plan = schedule(durations, n_workers, **options)
    assert list(plan.start) == pytest.approx(starts) and list(plan.end) == pytest.approx(ends)


def test_expected_maximum_and_idle_share_by_hand():
    assert expected_maximum([1, 2, 4], 2) == pytest.approx((1 + 2 * 3 + 4 * 5) / 9)
    assert expected_maximum([1, 2, 4], 1) == pytest.approx(7 / 3)
    assert idle_share(busy_seconds=6, n_workers=2, seconds=4) == 0.25
