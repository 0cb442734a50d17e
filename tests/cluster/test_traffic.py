"""Traffic on a real cluster: an object that only Marquee and people write, which every replica follows, and
which is believed when they report it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bundles import USERS, put_bundle
from tests.cluster.conftest import SMALL, Living, marquee
from tests.cluster.kube import Object, items, kubectl, read, until
from tests.cluster.lives import SETTLED_S, clusters, lacks_image, serving, settled
from tests.cluster.release import image
from training.bundle import read_bundle, write_bundle

CLAIM = "bundleStore.pvc.existingClaim=bundles"
FIRST, NEXT, BROKEN = "/bundles/first", "/bundles/next", "/bundles/broken"

RATE = 20.0
"""Requests a second: a fifth of them are 240 in a window of a minute."""
TAKEN_S = 120.0
"""Seconds for all replicas to serve what is written; a kubelet that is not told looks within a minute."""
JUDGED_S = 600.0
"""Seconds for a canary of one step of a minute, judged over a minute, on a busy machine."""
LOOSE = [
    part
    for limit in ("minimum_requests=50", "p99_ratio=100", "degraded_rate=1", "coverage_drop=1", "psi=10")
    for part in ("--guardrail", limit)
]
"""What a busy machine and two equal models must not be judged by."""


@pytest.fixture(scope="module")
def versions(living: Living, bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URL → version of the bundles on the claim; their folders are named otherwise. One is cut off."""
    bundle = read_bundle(str(bundle_dir))
    folder = tmp_path_factory.mktemp("bundles")
    following = write_bundle(
        folder,
        schema=bundle.schema,
        catalogue=bundle.catalogue,
        components=bundle.components,
        declaration=bundle.declaration,
        model_card="another card",
        manifest=bundle.manifest,
    )
    broken = folder / "broken"
    shutil.copytree(following, broken)
    cut = broken / "ranker.safetensors"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    repository, tag = image()
    put_bundle(living.release.namespace, "bundles", f"{repository}:{tag}", following, "next")
    put_bundle(living.release.namespace, "bundles", f"{repository}:{tag}", broken, "broken")
    return {FIRST: bundle.manifest.version, NEXT: read_bundle(str(following)).manifest.version}


@pytest.fixture(autouse=True)
def all_on_the_first(living: Living) -> Iterator[None]:
    """Before and after each test."""
    until("the traffic object", lambda: wanted(living) == [{"bundle": FIRST, "weight": 100}], TAKEN_S)
    yield
    rollout(living, "rollback")
    put(living, {"bundle": FIRST, "weight": 100})


def rollout(living: Living, *arguments: str) -> tuple[int, list[Object]]:
    """(exit status, documents) of a `marquee rollout`."""
    where = ("--namespace", living.release.namespace, "--name", living.release.name, "-o", "json")
    done = marquee("rollout", *arguments, *where)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def begin(living: Living, bundle: str, *arguments: str) -> None:
    """A canary that the release's controller drives."""
    code, said = rollout(living, "canary", bundle, *arguments, "--detach")
    assert code == 0, said


def status(living: Living) -> Object:
    _, [found] = rollout(living, "status")
    return found


def wanted(living: Living) -> list[dict[str, Any]]:
    return list(json.loads(text(living))["traffic"])


def text(living: Living) -> str:
    found = read("configmap", living.release.namespace, f"{living.release.name}-traffic")
    return str(found["data"]["traffic.json"])


def put(living: Living, *entries: dict[str, Any]) -> None:
    """By hand, with kubectl; waits until all replicas have it."""
    document = json.dumps({"data": {"traffic.json": json.dumps({"revision": 0, "traffic": entries})}})
    namespace, name = living.release.namespace, f"{living.release.name}-traffic"
    kubectl("--namespace", namespace, "patch", "configmap", name, "--type=merge", "--patch", document)
    until("every replica with what is wanted", lambda: taken(living), TAKEN_S)


def taken(living: Living) -> bool:
    found = status(living)
    return not found["behind"] and not found["problem"]


def answered(living: Living) -> set[str]:
    """Versions that answer all of 200 users."""
    count = living.client.each(USERS, RATE)
    assert (count.sent, count.failures) == (len(USERS), {})
    return set(count.versions)


def test_the_object_is_made_of_what_replicas_serve_and_is_marquees(living: Living) -> None:
    name = f"{living.release.name}-traffic"
    shown = kubectl(
        "--namespace", living.release.namespace, "get", "configmap", name, "--output=json",
        "--show-managed-fields",
    )  # fmt: skip
    metadata = json.loads(shown)["metadata"]
    assert {one["manager"] for one in metadata["managedFields"]} <= {"marquee", "kubectl-patch"}
    assert [owner["kind"] for owner in metadata["ownerReferences"]] == ["RayService"]


def test_a_canary_that_is_refused_is_back_at_once_and_says_why(
    living: Living, versions: dict[str, str]
) -> None:
    begin(living, BROKEN, "--steps", "20:60s", "--window", "60s")
    ended = until("the end", lambda: over(living), TAKEN_S)
    assert ended["phase"] == "RolledBack"
    assert "ranker.safetensors" in ended["message"]
    assert ended["step"] == 1
    assert "is in place" not in ended["message"]
    events = items("events.events.k8s.io", living.release.namespace)
    notes = [each["note"] for each in events if each["reason"] == "RollBack"]
    assert any("ranker.safetensors" in note for note in notes)
    assert answered(living) == {versions[FIRST]}


def over(living: Living) -> Object | None:
    found: Object = status(living)["rollout"]
    return found if found["phase"] in ("Promoted", "RolledBack", "Stopped") else None


def test_a_canary_of_the_first_bundle_is_judged_from_prometheus_and_promoted(
    living: Living, bundle_dir: Path, versions: dict[str, str]
) -> None:
    """By sessions: no features are in Redis, and answers that no ranker scored have no score to compare."""
    if "prometheus-operated" not in {each["metadata"]["name"] for each in items("services", "monitoring")}:
        pytest.skip("no Prometheus at prometheus-operated.monitoring, which the controller asks")
    items_known = read_bundle(str(bundle_dir)).catalogue.ids[:40]
    sessions = [{"session": {"events": [{"item_id": str(one)}]}} for one in items_known]
    with living.client.load(sessions, RATE) as count:
        begin(living, NEXT, "--steps", "20:60s", "--window", "60s", *LOOSE)
        ended = until("the end", lambda: over(living), JUDGED_S)
    assert ended["phase"] == "Promoted", ended
    assert ended["production_version"] == versions[FIRST]
    assert ended["candidate_version"] == versions[NEXT]
    assert count.failures == {}
    assert set(count.versions) == set(versions.values())
    assert answered(living) == {versions[NEXT]}
    code, _ = rollout(living, "rollback")
    assert code == 0
    assert answered(living) == {versions[FIRST]}


def test_no_verb_of_helm_moves_a_user(living: Living, versions: dict[str, str]) -> None:
    """Helm's rollback gave a fifth of the users a canary that had been rolled back."""
    release = living.release
    revision = int(json.loads(release.helm("history", release.name, "--output=json"))[-1]["revision"])
    put(living, {"bundle": FIRST, "weight": 50}, {"bundle": NEXT, "weight": 50})
    before = text(living)
    release.upgrade(*SMALL, CLAIM, "workers.cpu.maxReplicas=3", wait=False)
    assert text(living) == before
    put(living, {"bundle": NEXT, "weight": 100})
    release.rollback(revision, wait=False)
    assert answered(living) == {versions[NEXT]}
    assert wanted(living) == [{"bundle": NEXT, "weight": 100}]


def test_a_rollback_during_an_upgrade_that_cannot_finish_reaches_everybody(
    living: Living, versions: dict[str, str]
) -> None:
    release = living.release
    before = settled(release, 2)  # an upgrade of the test before may be on its way
    begin(living, NEXT, "--steps", "50:3000s", "--window", "600s")
    until("the step in place", lambda: status(living)["rollout"]["since"], TAKEN_S)
    release.upgrade(*SMALL, CLAIM, "image.tag=nonsense", wait=False)
    try:
        until("a second cluster", lambda: len(clusters(release)) == 2, SETTLED_S)
        until("its head without an image", lambda: lacks_image(release), SETTLED_S)
        assert answered(living) == set(versions.values())
        code, documents = rollout(living, "rollback")
        assert (code, documents[-1]["phase"]) == (0, "RolledBack")
        assert answered(living) == {versions[FIRST]}
        assert serving(release) == before
    finally:
        release.upgrade(*SMALL, CLAIM, wait=False)
        settled(release, 2)


def test_a_text_that_is_no_traffic_takes_nothing_away(living: Living, versions: dict[str, str]) -> None:
    namespace, name = living.release.namespace, f"{living.release.name}-traffic"
    document = json.dumps({"data": {"traffic.json": "{"}})
    kubectl("--namespace", namespace, "patch", "configmap", name, "--type=merge", "--patch", document)
    assert "holds no traffic" in status(living)["problem"]
    until("an event", lambda: told(living), TAKEN_S)
    assert answered(living) == {versions[FIRST]}


def told(living: Living) -> bool:
    events = items("events.events.k8s.io", living.release.namespace)
    return any(each["reason"] == "Refused" and "holds no traffic" in each["note"] for each in events)
