"""How many workers there may be reaches clusters that run, and nothing else of them changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.bounds import BOUNDS, MADE_FOR, carry_bounds, changed
from k8s.client import RAY_CLUSTERS, RAY_SERVICES, Object
from k8s.errors import Conflict, Forbidden
from tests.k8s.apiserver import Served

COUNTS = st.integers(0, 9)


def group(name: str, least: int, most: int, **more: Any) -> Object:
    return {"groupName": name, "replicas": least, "minReplicas": least, "maxReplicas": most} | more


GROUPS = st.dictionaries(
    st.sampled_from(["cpu", "gpu", "spot"]),
    st.tuples(COUNTS, COUNTS, COUNTS),
).map(
    lambda made: [
        {"groupName": name, "replicas": now, "minReplicas": least, "maxReplicas": most, "template": name}
        for name, (now, least, most) in made.items()
    ]
)


@given(wanted=GROUPS, running=GROUPS, autoscaled=st.booleans())
def test_only_bounds_follow_and_only_of_groups_that_both_have(
    wanted: list[Object], running: list[Object], autoscaled: bool
) -> None:
    config = {"enableInTreeAutoscaling": autoscaled, "workerGroupSpecs": wanted}
    before = copy.deepcopy(running)
    after = changed(config, {"workerGroupSpecs": running})
    assert running == before
    if after is None:
        after = running
    else:
        assert after != running
    asked = {each["groupName"]: each for each in wanted}
    follows = BOUNDS if autoscaled else (*BOUNDS, "replicas")
    assert [each["groupName"] for each in after] == [each["groupName"] for each in running]
    for old, new in zip(running, after, strict=True):
        source = asked.get(old["groupName"], old)
        expected = old | {field: source[field] for field in follows}
        if autoscaled:
            assert new["maxReplicas"] >= min(old["replicas"], old["maxReplicas"]), "none is ended at once"
            expected["maxReplicas"] = max(expected["maxReplicas"], min(old["replicas"], old["maxReplicas"]))
        assert new == expected


def test_a_lowered_maximum_follows_the_workers_down(kubernetes: Served) -> None:
    service(kubernetes, group("cpu", 1, 2))
    put(kubernetes, "active", group("cpu", 1, 6) | {"replicas": 5})
    seen = []
    for idle in (5, 4, 3, 2, 1):
        held = [each | {"replicas": idle} for each in spec(kubernetes, "active")["workerGroupSpecs"]]
        kubernetes.cluster().patch(RAY_CLUSTERS, "prod", "active", {"spec": {"workerGroupSpecs": held}})
        carry_bounds(kubernetes.cluster(), "prod")
        [carried] = spec(kubernetes, "active")["workerGroupSpecs"]
        seen.append(carried["maxReplicas"])
    assert seen == [5, 4, 3, 2, 2]


def put(server: Served, name: str, *groups: Object, of: str = "marquee") -> None:
    body = {"metadata": {"labels": {MADE_FOR: of}}, "spec": {"workerGroupSpecs": list(groups)}}
    server.put(RAY_CLUSTERS, name, body)


def service(server: Served, *groups: Object, name: str = "marquee") -> None:
    config = {"enableInTreeAutoscaling": True, "workerGroupSpecs": list(groups)}
    labels = {"app.kubernetes.io/part-of": "marquee"}
    server.put(RAY_SERVICES, name, {"metadata": {"labels": labels}, "spec": {"rayClusterConfig": config}})


def spec(server: Served, name: str) -> Object:
    found: Object = server.cluster().get(RAY_CLUSTERS, "prod", name)["spec"]
    return found


def test_the_active_and_the_pending_cluster_get_them(kubernetes: Served) -> None:
    service(kubernetes, group("cpu", 2, 6, template="new"))
    put(kubernetes, "active", group("cpu", 1, 3, template="old") | {"replicas": 3})
    put(kubernetes, "pending", group("cpu", 1, 3, template="new"))
    put(kubernetes, "others", group("cpu", 1, 3), of="another")
    carry_bounds(kubernetes.cluster(), "prod")
    expected = group("cpu", 2, 6, template="old") | {"replicas": 3}
    assert spec(kubernetes, "active")["workerGroupSpecs"] == [expected]
    [pending] = spec(kubernetes, "pending")["workerGroupSpecs"]
    assert (pending["minReplicas"], pending["maxReplicas"], pending["replicas"]) == (2, 6, 1)
    assert spec(kubernetes, "others")["workerGroupSpecs"] == [group("cpu", 1, 3)]


def test_what_is_right_is_not_written(kubernetes: Served) -> None:
    service(kubernetes, group("cpu", 2, 6))
    put(kubernetes, "active", group("cpu", 2, 6) | {"replicas": 5})
    kubernetes.api.asked.clear()
    carry_bounds(kubernetes.cluster(), "prod")
    assert {method for method, _ in kubernetes.api.asked} == {"GET"}


def test_an_autoscaler_that_wrote_meanwhile_is_not_overwritten(kubernetes: Served) -> None:
    service(kubernetes, group("cpu", 2, 6))
    put(kubernetes, "active", group("cpu", 1, 3))
    cluster = kubernetes.cluster()
    listed = cluster.list

    def listed_then_scaled(*asked: Any) -> list[Object]:
        found = listed(*asked)
        if asked[0] is RAY_CLUSTERS:
            scaled = {"spec": {"workerGroupSpecs": [group("cpu", 1, 3) | {"replicas": 3}]}}
            kubernetes.cluster().patch(RAY_CLUSTERS, "prod", "active", scaled)
        return found

    cluster.list = listed_then_scaled  # type: ignore[method-assign]  # a fault is injected
    carry_bounds(cluster, "prod")
    [kept] = spec(kubernetes, "active")["workerGroupSpecs"]
    assert kept == group("cpu", 1, 3) | {"replicas": 3}
    carry_bounds(kubernetes.cluster(), "prod")
    [carried] = spec(kubernetes, "active")["workerGroupSpecs"]
    assert carried == group("cpu", 2, 6) | {"replicas": 3}


@pytest.mark.parametrize("error", [Conflict("late"), Forbidden("no")])
def test_one_that_is_refused_holds_up_nobody(kubernetes: Served, error: Exception) -> None:
    service(kubernetes, group("cpu", 2, 6))
    put(kubernetes, "a", group("cpu", 1, 3))
    put(kubernetes, "b", group("cpu", 1, 3))
    cluster = kubernetes.cluster()
    patched = cluster.patch

    def refusing(resource: Any, namespace: str, name: str, body: Any, **more: Any) -> Object:
        if name == "a":
            raise error
        return patched(resource, namespace, name, body, **more)

    cluster.patch = refusing  # type: ignore[method-assign]  # a fault is injected
    carry_bounds(cluster, "prod")
    assert spec(kubernetes, "a")["workerGroupSpecs"] == [group("cpu", 1, 3)]
    [carried] = spec(kubernetes, "b")["workerGroupSpecs"]
    assert carried["maxReplicas"] == 6
