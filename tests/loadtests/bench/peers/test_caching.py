import json

from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.peers.caching import REPEATED, parse_lookups, partly_new

BODIES = [json.dumps({"count": 10, "user_id": str(n % 7)}) for n in range(2_000)]
ITEMS = [str(n) for n in range(1_000)]


def test_three_in_ten_were_never_asked_before() -> None:
    made = partly_new(BODIES, ITEMS, seed=3, repeated=REPEATED)
    new = [body for body in made if body not in set(BODIES)]
    assert abs(1 - len(new) / len(made) - REPEATED) < 0.05
    assert len(set(new)) == len(new)
    assert all(
        json.loads(old).items() <= json.loads(now).items() for old, now in zip(BODIES, made, strict=True)
    )


@given(st.integers(0, 50))
def test_a_seed_gives_its_requests_again_and_another_gives_others(seed: int) -> None:
    few = BODIES[:50]
    assert partly_new(few, ITEMS, seed, REPEATED) == partly_new(few, ITEMS, seed, REPEATED)
    assert partly_new(few, ITEMS, seed, REPEATED) != partly_new(few, ITEMS, seed + 1, REPEATED)


def test_all_may_be_new() -> None:
    made = partly_new(BODIES, ITEMS, seed=3, repeated=0.0)
    assert len(set(made)) == len(BODIES)
    assert not set(made) & set(BODIES)


def test_lookups_of_all_replicas_are_added_up() -> None:
    text = (
        "# TYPE marquee_cache_lookups_total counter\n"
        'marquee_cache_lookups_total{result="hit"} 7.0\n'
        'marquee_cache_lookups_total{pid="2",result="hit"} 1e+01\n'
        'marquee_cache_lookups_total{result="miss"} 3.0\n'
        'marquee_requests_total{status="200"} 99.0\n'
    )
    assert parse_lookups(text) == (17.0, 3.0)


def test_the_service_counts_lookups_under_this_name() -> None:
    from serving.observe.prometheus import PrometheusRecorder

    recorder = PrometheusRecorder()
    recorder.cache(True)
    recorder.cache(True)
    recorder.cache(False)
    assert parse_lookups(recorder.exposition().decode()) == (2.0, 1.0)
