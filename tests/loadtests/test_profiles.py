import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.profiles import PROFILES, QUIET, SPIKE, diurnal, people, spike, steady

moments = st.floats(0, 1)


@given(profile=st.sampled_from(sorted(PROFILES)), most=st.integers(1, 10_000), at=moments)
def test_there_is_always_somebody_and_never_more_than_the_most(profile: str, most: int, at: float) -> None:
    assert 1 <= people(profile, most, at) <= most


def test_a_steady_load_comes_up_and_stays() -> None:
    assert steady(0.0) == 0
    assert steady(0.05) == pytest.approx(0.5)
    assert steady(0.1) == steady(0.5) == steady(1.0) == 1


def test_a_spike_comes_at_once_and_goes_again() -> None:
    begin, end = SPIKE
    assert [spike(at) for at in (0.0, begin - 0.01, begin, end - 0.01, end, 1.0)] == [
        QUIET,
        QUIET,
        1.0,
        1.0,
        QUIET,
        QUIET,
    ]


def test_a_day_is_quiet_at_midnight_and_fullest_at_noon() -> None:
    assert diurnal(0.0) == diurnal(1.0) == pytest.approx(QUIET)
    assert diurnal(0.5) == pytest.approx(1.0)
    assert diurnal(0.25) == pytest.approx(diurnal(0.75))
