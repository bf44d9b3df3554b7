"""Profiles take samples large enough for the percentiles that they promise."""

from typing import get_args

from embedopt.measure.latency import quantile_interval
from embedopt.measure.profiles import PROFILES, ProfileName


def test_full_has_a_p99_of_single_calls_and_quick_a_p95() -> None:
    assert set(PROFILES) == set(get_args(ProfileName))
    assert quantile_interval(PROFILES["full"].single_calls, 0.99) is not None
    assert quantile_interval(PROFILES["quick"].single_calls, 0.95) is not None


def test_every_profile_has_a_median_of_larger_batches_and_more_texts_than_one_batch() -> None:
    """With 32 texts or fewer, batch invariance would see each text in the same batch every time."""
    for profile in PROFILES.values():
        assert quantile_interval(profile.batch_calls, 0.5) is not None
        assert profile.invariance_texts > 32
