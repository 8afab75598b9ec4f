import math

import numpy as np
import pandas as pd
import pytest

from async_hpo import compare


def trajectory(*steps):
    return pd.DataFrame(steps, columns=["time", "validation_error"])


def test_speed_up_by_hand():
    found = compare.speed_up(pd.DataFrame({1: [10.0, 30.0], 2: [5.0, 15.0], 4: [5.0, 5.0]}))
    assert list(found.seconds) == [20, 10, 5] and list(found["speed-up"]) == [1, 2, 4]
    assert list(found.efficiency) == [1, 1, 1] and list(found["worker-seconds"]) == [20, 20, 20]
    assert list(found.low) == [1, 2, 2] and list(found.high) == [1, 2, 6]


def test_incumbents_and_their_bands():
    one = trajectory((1, 0.5), (2, 0.6), (4, 0.2))
    two = trajectory((3, 0.3), (1.5, 0.4))
    assert compare.best_so_far(one, [0, 1, 3, 4]).tolist() == pytest.approx([math.nan, 0.5, 0.5, 0.2], nan_ok=True)
    found = compare.bands([one, two, one], [1, 2, 4])
    assert list(found.time) == [1, 2, 4] and list(found.low) == [0.5, 0.4, 0.2]
    assert list(found["median"]) == [0.5, 0.5, 0.2], "a search without a report yet is worse than any"
    assert list(found.high) == pytest.approx([math.nan, 0.5, 0.3], nan_ok=True)
    assert compare.bands([trajectory(), trajectory()], [1]).isna().sum(axis=None) == 3


def test_probability_with_its_interval():
    rng = np.random.default_rng(0)
    assert compare.probability_lower([1, 2, 3], [4, 5, 6]) == (1, 1, 1)
    assert compare.probability_lower([1, 2], [2, 1])[0] == 0.5
    p, low, high = compare.probability_lower(rng.normal(0, 1, 200), rng.normal(1, 1, 200))
    assert low < p < high and low < 0.760 < high  # the normal distribution's: Phi(1 / sqrt(2))


def test_ratio_of_pairs_with_its_interval():
    """What both of a pair share, such as a slow hour, makes the interval no wider."""
    pace = np.array([1.0, 3.0, 2.0, 5.0])
    assert compare.ratio_of_pairs(2 * pace, pace) == pytest.approx((2, 2, 2))
    ratio, low, high = compare.ratio_of_pairs([2.0, 4.4, 2.0, 1.8], [1.0, 2.0, 1.0, 1.0])
    assert ratio == pytest.approx((2 * 2.2 * 2 * 1.8) ** 0.25) and low < 1.8 < 2.2 < high
    assert compare.ratio_of_pairs([1.0, 2.0], [2.0, 5.0])[1] > 0, "a ratio of times has no negative end"
    with pytest.raises(ValueError):
        compare.ratio_of_pairs([1.0, 2.0], [1.0])


def test_mean_as_text():
    assert compare.mean_as_text([0.1, 0.3], "{:+.1%}") == "+20.0% [-107.1%, +147.1%]", "0.2 and 12.7 x 0.1, Student's"
    assert compare.mean_as_text(pd.Series([1, 2, 3], [7, 8, 9])) == "2.00 [-0.48, 4.48]", "4.3 x 1 / sqrt(3)"
    assert compare.mean_as_text([3.0], "{:.0f}") == "3 [nan, nan]"
