from loadtests.tally import KEPT, NAMED, Tally


def body(version: str, *degraded: str) -> dict[str, object]:
    return {"model": {"version": version}, "degraded": list(degraded)}


def test_what_workers_send_adds_up_and_is_sent_once() -> None:
    worker, master = Tally(), Tally()
    for _ in range(2):
        worker.asked += 2
        worker.answered(5.0, body("a"))
        worker.answered(7.0, body("b", "ranker"))
        worker.fail("196")
        master.add(worker.taken())
    assert worker == Tally()
    assert (master.asked, master.failed, master.lost, master.degraded) == (4, 2, 0, 2)
    assert master.versions == {"a": 2, "b": 2}
    assert master.failed_for == ["196", "196"]
    assert master.outcome().latencies_ms == [5.0, 7.0, 5.0, 7.0]


def test_what_is_kept_is_bounded() -> None:
    tally, other = Tally(), Tally()
    for _ in range(NAMED + 1):
        other.fail("1")
    other.latencies_ms = [1.0] * KEPT
    other.answered(2.0, body("a"))
    tally.add(other.taken())
    tally.add({**Tally().taken(), "latencies_ms": [3.0], "failed_for": ["2"]})
    assert len(tally.latencies_ms) == KEPT
    assert len(tally.failed_for) == NAMED
