"""The first bundle gets all traffic where there is none, and nothing is moved where there is some."""

from __future__ import annotations

import pytest

from k8s.client import CONFIG_MAPS, RAY_SERVICES
from k8s.errors import NotFound, Rejected
from k8s.first_bundle import FirstBundle
from serving.traffic.desired import KEY, Desired
from tests.k8s.apiserver import Served, ray_service

BUNDLE = "/bundles/0a1b2c"


def first(kubernetes: Served) -> FirstBundle:
    return FirstBundle(kubernetes.cluster(), "prod", "marquee")


def wanted(kubernetes: Served) -> list[tuple[str, int]]:
    item = kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-traffic")
    return [(one.bundle, one.weight) for one in Desired.parse(item["data"][KEY]).traffic.traffic]


def test_it_makes_the_traffic_object_which_goes_with_its_service(kubernetes: Served) -> None:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service())
    assert first(kubernetes).bundle() is None
    assert first(kubernetes).bring(BUNDLE)
    assert wanted(kubernetes) == [(BUNDLE, 100)]
    item = kubernetes.cluster().get(CONFIG_MAPS, "prod", "marquee-traffic")
    [owner] = item["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("RayService", "marquee")
    assert first(kubernetes).bundle() == BUNDLE


def test_traffic_that_is_there_stays(kubernetes: Served) -> None:
    kubernetes.put(RAY_SERVICES, "marquee", ray_service())
    first(kubernetes).bring(BUNDLE)
    before = wanted(kubernetes)
    assert not first(kubernetes).bring("/bundles/another")
    assert wanted(kubernetes) == before


def test_without_a_service_nothing_is_made(kubernetes: Served) -> None:
    with pytest.raises(NotFound):
        first(kubernetes).bring(BUNDLE)
    assert first(kubernetes).bundle() is None


def test_an_object_that_holds_no_traffic_is_not_overwritten(kubernetes: Served) -> None:
    kubernetes.put(CONFIG_MAPS, "marquee-traffic", {"data": {KEY: "{}"}})
    with pytest.raises(Rejected, match="marquee-traffic holds no traffic"):
        first(kubernetes).bundle()
