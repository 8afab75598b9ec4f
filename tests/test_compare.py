import math

import numpy as np
import pandas as pd
import pytest

from async_hpo import compare


def trajectory(*steps):
    return pd.DataFrame(steps, columns=["time", "validation_error"])


def test_bands_by_hand():
    found = compare.bands([trajectory((1, 0.9), (10, 0.5)), trajectory((1, 0.8), (100, 0.1)), trajectory((1, 0.7))])
    assert found.time.iloc[0] == 1 and found.time.iloc[-1] == 100
    assert list(found.iloc[0][["low", "median", "high"]]) == [0.7, 0.8, 0.9]
    assert list(found.iloc[-1][["low", "median", "high"]]) == [0.1, 0.5, 0.7]


def test_a_trajectory_without_a_report_yet_is_worse_than_any():
    found = compare.bands([trajectory((1, 0.9)), trajectory((1, 0.8)), trajectory((50, 0.1))])
    assert list(found.iloc[0][["low", "median"]]) == [0.8, 0.9] and math.isnan(found.high.iloc[0])


def test_speed_up_by_hand():
    found = compare.speed_up(pd.DataFrame({1: [10.0, 30.0], 2: [5.0, 15.0], 4: [5.0, 5.0]}))
    assert list(found.seconds) == [20, 10, 5] and list(found["speed-up"]) == [1, 2, 4]
    assert list(found.efficiency) == [1, 1, 1] and list(found["worker-seconds"]) == [20, 20, 20]
    assert list(found.low) == [1, 2, 2] and list(found.high) == [1, 2, 6]


def test_bands_of_searches_that_have_reported_nothing():
    nothing = trajectory()
    assert list(compare.bands([nothing, nothing]).columns) == ["time", "low", "median", "high"]
    assert compare.bands([nothing, nothing]).empty
    one = compare.bands([nothing, trajectory((1, 0.9), (10, 0.5)), trajectory((1, 0.9))])
    assert one.time.iloc[0] == 1 and one["median"].iloc[-1] == 0.9 and np.isnan(one.high.iloc[-1])


def test_incumbents_and_their_bands():
    one = pd.DataFrame({"time": [1.0, 2.0, 4.0], "validation_error": [0.5, 0.6, 0.2]})
    two = pd.DataFrame({"time": [3.0, 1.5], "validation_error": [0.3, 0.4]})
    assert compare.best_so_far(one, [0, 1, 3, 4]).tolist() == pytest.approx([np.nan, 0.5, 0.5, 0.2], nan_ok=True)
    found = compare.bands([one, two, one], [1, 2, 4])
    assert found.low.tolist() == [0.5, 0.4, 0.2]
    assert found["median"].tolist() == [0.5, 0.5, 0.2]
    assert found.high.tolist() == pytest.approx([np.nan, 0.5, 0.3], nan_ok=True)


def test_probability_with_its_interval():
    rng = np.random.default_rng(0)
    assert compare.probability_lower([1, 2, 3], [4, 5, 6]) == (1, 1, 1)
    assert compare.probability_lower([1, 2], [2, 1])[0] == 0.5
    p, low, high = compare.probability_lower(rng.normal(0, 1, 200), rng.normal(1, 1, 200))
    assert low < p < high and low < 0.760 < high  # the normal distribution's: Phi(1 / sqrt(2))
    same = [compare.probability_lower(rng.normal(size=30), rng.normal(size=30)) for _ in range(40)]
    assert sum(low <= 0.5 <= high for _, low, high in same) >= 32


def test_ratio_of_pairs_with_its_interval():
    """What both of a pair share, such as a slow hour, makes the interval no wider."""
    pace = np.array([1.0, 3.0, 2.0, 5.0])
    assert compare.ratio_of_pairs(2 * pace, pace) == pytest.approx((2, 2, 2))
    ratio, low, high = compare.ratio_of_pairs([2.0, 4.4, 2.0, 1.8], [1.0, 2.0, 1.0, 1.0])
    assert ratio == pytest.approx((2 * 2.2 * 2 * 1.8) ** 0.25) and low < 1.8 < 2.2 < high
    assert compare.ratio_of_pairs([1.0, 2.0], [2.0, 5.0])[1] > 0, "a ratio of times has no negative end"
    ratio, *ends = compare.ratio_of_pairs([3.0], [1.5])
    assert ratio == pytest.approx(2) and all(math.isnan(end) for end in ends), "a single pair has no interval"
    with pytest.raises(ValueError):
        compare.ratio_of_pairs([1.0, 2.0], [1.0])


def test_the_interval_of_a_few_holds_what_it_says():
    """Of 100 intervals from four measurements each, about 95 hold the true mean; of resampled ones, 78 would."""
    samples = np.random.default_rng(0).normal(1, 1, (400, 4))
    held = [low <= 1 <= high for _, low, high in map(compare.mean_with_interval, samples)]
    assert 0.92 < np.mean(held) < 0.98


def test_a_mean_with_its_interval():
    values = pd.Series(np.random.default_rng(0).normal(5, 1, 100), index=range(100, 200))
    mean, low, high = compare.mean_with_interval(values)
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == (pytest.approx(0.196, rel=0.25),) * 2, "1.96 standard errors, of 0.1 each"
    assert compare.mean_with_interval(values, level=0.5)[1] > low
    assert compare.mean_with_interval([2.0, 2.0]) == (2, 2, 2)
    mean, *ends = compare.mean_with_interval([3.0])
    assert mean == 3 and all(math.isnan(end) for end in ends)


def test_mean_as_text():
    assert compare.mean_as_text([2.0, 2.0]) == "2.00 [2.00, 2.00]"
    values = [0.1, 0.2, 0.3]
    mean, low, high = (f"{value:+.1%}" for value in compare.mean_with_interval(values))
    assert compare.mean_as_text(values, "{:+.1%}") == f"{mean} [{low}, {high}]" and mean == "+20.0%"
    assert compare.mean_as_text([3.0], "{:.0f}") == "3 [nan, nan]"
