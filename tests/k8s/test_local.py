"""One server's traffic over its admin endpoint, and the files that keep its rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8s.driver import Driver
from k8s.errors import Conflict, ControlError, Forbidden, NotFound, Rejected, Unavailable
from k8s.local import EVENTS, LocalTarget, admin_token
from k8s.operations import Wish, start
from k8s.plan import Phase, Step
from k8s.scrape import ScrapeSource
from serving.config import Traffic
from tests.k8s.loopback import TOKEN, FakeMarquee, Loopback, running
from tests.k8s.worlds import NEW, OLD, Clock, plan


@pytest.fixture
def server() -> Iterator[FakeMarquee]:
    with running(FakeMarquee({"bundle": OLD, "weight": 100})) as fake:
        assert isinstance(fake, FakeMarquee)
        yield fake


@pytest.fixture
def target(server: FakeMarquee, tmp_path: Path) -> LocalTarget:
    return LocalTarget(server.url, tmp_path, TOKEN)


@pytest.mark.parametrize(("errors", "end"), [(0.0, Phase.PROMOTED), (0.05, Phase.ROLLED_BACK)])
@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_rollout_by_the_servers_own_metrics(
    server: FakeMarquee, target: LocalTarget, errors: float, end: Phase, kind: str
) -> None:
    server.errors = errors
    clock = Clock()
    target.wait = clock.sleep  # type: ignore[method-assign]  # the test puts its own in place
    steps = (Step(5, 60.0), Step(50, 60.0)) if kind == "canary" else (Step(0, 60.0),)
    start(target, Wish(kind, NEW, steps, window_s=20.0))  # type: ignore[arg-type]  # parameters of a test are wider
    ended = Driver(target, ScrapeSource(server.url, clock=clock), clock=clock, sleep=clock.sleep).drive()
    if kind == "shadow":
        end = Phase.PASSED if end is Phase.PROMOTED else end
        assert server.seen[0] == [{"bundle": OLD, "weight": 100}, {"bundle": NEW, "shadow": True}]
    else:
        assert server.seen[0] == [{"bundle": OLD, "weight": 95}, {"bundle": NEW, "weight": 5}]
    assert ended.state.phase is end
    assert target.read().traffic == Traffic.of(NEW if end is Phase.PROMOTED else OLD)
    if end is Phase.ROLLED_BACK:
        assert len(server.seen) == 2
        assert "error rate" in ended.state.message


def test_a_refused_bundle_goes_back(server: FakeMarquee, target: LocalTarget) -> None:
    server.refuses = "v2"
    start(target, Wish("canary", NEW, (Step(5, 60.0),), window_s=20.0))
    ended = Driver(target, None).drive()
    assert ended.state.phase is Phase.ROLLED_BACK
    assert "v2 was refused: checksum" in ended.state.message
    assert target.read().traffic == Traffic.of(OLD)


def test_a_stale_write_is_a_conflict(server: FakeMarquee, target: LocalTarget) -> None:
    with pytest.raises(Conflict):
        target.write(plan().at(0), "7")
    assert server.seen == []


def test_two_controllers_keep_one_record(target: LocalTarget) -> None:
    rollout = start(target, Wish("canary", NEW, (Step(5, 60.0),), window_s=20.0))
    record = target.load()
    assert record is not None
    assert record.rollout == rollout
    with pytest.raises(Conflict):
        target.save(rollout, None)
    with pytest.raises(Conflict):
        target.save(rollout, "an older one")


def test_decisions_are_told_once_and_old_ones_go(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = start(target, Wish("canary", NEW, (Step(5, 60.0),), window_s=20.0))
    target.announce(rollout)
    target.announce(rollout)
    [file] = (tmp_path / "rollouts").glob("*.events.jsonl")
    [line] = file.read_text().splitlines()
    assert json.loads(line)["action"] == "Started"
    file.write_text((line.replace(rollout.plan.id, "old") + "\n") * (EVENTS + 50))
    target.announce(rollout)
    lines = file.read_text().splitlines()
    assert len(lines) == EVENTS
    assert rollout.plan.id in lines[-1]


class Saying(Loopback):
    """Answers one thing."""

    def __init__(self, status: int, content: object) -> None:
        super().__init__()
        self.status, self.content = status, content

    def answer(self, *_: object) -> tuple[int, object]:
        return self.status, self.content


@pytest.mark.parametrize(
    ("status", "content", "error", "word"),
    [
        (401, {"detail": "who?"}, Forbidden, "MARQUEE_ADMIN_TOKEN"),
        (404, {"detail": "no"}, NotFound, "admin token"),
        (409, {"detail": "set by its RayService"}, Forbidden, "RayService"),
        (422, {"detail": "weights"}, Rejected, "weights"),
        (500, {"detail": "oops"}, Unavailable, "oops"),
        (200, "<html>", Unavailable, "200"),
        (200, {"traffic": [{}]}, Unavailable, "something else"),
    ],
)
def test_refusals_say_what_to_do(
    tmp_path: Path, status: int, content: object, error: type[ControlError], word: str
) -> None:
    with running(Saying(status, content)) as fake, pytest.raises(error, match=word):
        LocalTarget(fake.url, tmp_path, TOKEN).read()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_no_server_says_so(tmp_path: Path, url: str) -> None:
    with pytest.raises(Unavailable, match=r"marquee serve|--url"):
        LocalTarget(url, tmp_path, None).read()


def test_the_token_comes_from_the_environment_or_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARQUEE_ADMIN_TOKEN", raising=False)
    assert admin_token(tmp_path) is None
    (tmp_path / "admin-token").write_text("from-file\n")
    assert admin_token(tmp_path) == "from-file"
    monkeypatch.setenv("MARQUEE_ADMIN_TOKEN", "from-environment")
    assert admin_token(tmp_path) == "from-environment"
