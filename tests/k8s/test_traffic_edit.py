"""Traffic in a YAML text that people wrote: read, and replaced without touching anything else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from k8s.traffic_edit import NotOneTable, TrafficEditError, read_traffic, wire, write_traffic
from serving.config import Traffic, TrafficEntry

TEXT = """\
# written by Helm
applications:
  - name: marquee   # the only one
    route_prefix: /
    args: {version: 1e3, flag: on, ratio: 0x1F}
    deployments:
    - name: Ingress
      user_config:
        traffic:
        - bundle: s3://b/v1
          weight: 100   # all of it
        # about the next key
        other: "yes"
    - name: Ranker
      num_replicas: 2
      user_config: {"traffic": [{bundle: s3://b/v1, weight: 100}], "z": [1, 2]}
    - name: Plain
"""

TWO = Traffic(
    traffic=(
        TrafficEntry(bundle="s3://b/v1", weight=95),
        TrafficEntry(bundle="s3://b/v2", weight=5),
        TrafficEntry(bundle="s3://b/v3", shadow=True),
    )
)


class Plain(yaml.SafeDumper):
    """Without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_only_traffic_changes() -> None:
    flow = json.dumps(wire(TWO))
    expected = TEXT.replace(
        "traffic:\n        - bundle: s3://b/v1\n          weight: 100", f"traffic: {flow}"
    ).replace('"traffic": [{bundle: s3://b/v1, weight: 100}]', f'"traffic": {flow}')
    assert write_traffic(TEXT, TWO) == expected
    assert read_traffic(expected) == TWO


def test_the_wire_form_says_no_more_than_it_must() -> None:
    assert wire(TWO) == [
        {"bundle": "s3://b/v1", "weight": 95},
        {"bundle": "s3://b/v2", "weight": 5},
        {"bundle": "s3://b/v3", "shadow": True},
    ]


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
scalars = st.one_of(
    names,
    st.integers(),
    st.booleans(),
    st.none(),
    st.sampled_from(["1e3", "on", "2026-01-01", "# no", "'", "a: b"]),
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@st.composite
def tables(draw: st.DrawFn) -> Traffic:
    bundles = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(bundles) - 1, max_size=len(bundles) - 1)))
    weights = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    entries = zip(bundles, weights, strict=True)
    return Traffic(traffic=tuple(TrafficEntry(bundle=bundle, weight=weight) for bundle, weight in entries))


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    traffic = wire(draw(tables()))
    deployments = []
    for index in range(draw(st.integers(1, 3))):
        user_config = draw(st.dictionaries(names.filter(lambda name: name != "traffic"), trees, max_size=3))
        items = list(user_config.items())
        items.insert(draw(st.integers(0, len(items))), ("traffic", traffic))
        deployments.append({"name": f"d{index}", "user_config": dict(items), "more": draw(trees)})
    deployments.append({"name": "plain", "num_replicas": 1})
    application = {"name": "marquee", "deployments": deployments, "args": draw(trees)}
    return {"applications": [application], "rest": draw(trees)}


@settings(max_examples=50)
@given(configs(), tables(), st.sampled_from([False, True, None]), st.integers(2, 4))
def test_any_document_keeps_its_meaning_and_its_other_bytes(
    config: dict[str, Any], traffic: Traffic, flow: bool | None, indent: int
) -> None:
    text = yaml.dump(
        config, Dumper=Plain, default_flow_style=flow, indent=indent, allow_unicode=True, width=60
    )
    edited = write_traffic(text, traffic)
    expected = copy.deepcopy(config)
    for deployment in expected["applications"][0]["deployments"][:-1]:
        deployment["user_config"]["traffic"] = wire(traffic)
    assert yaml.safe_load(edited) == expected
    assert read_traffic(edited) == traffic
    assert write_traffic(edited, traffic) == edited
    assert write_traffic(write_traffic(edited, TWO), traffic) == edited


@pytest.mark.parametrize(
    ("text", "error", "word"),
    [
        ("{", TrafficEditError, "not YAML"),
        ("", TrafficEditError, "no deployment"),
        ("[1]", TrafficEditError, "no deployment"),
        ("applications: [{deployments: [{name: a}]}]", TrafficEditError, "no deployment"),
        (TEXT.replace("{bundle: s3://b/v1", "{bundle: s3://b/v9"), NotOneTable, "disagree"),
        (TEXT.replace("weight: 100", "weight: 90"), NotOneTable, "100"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        read_traffic(text)


def test_an_anchor_round_the_traffic_is_edited_once() -> None:
    text = (
        "applications: [{deployments: [{name: a, user_config: &shared {traffic: [{bundle: x, weight: 100}]}}"
        ", {name: b, user_config: *shared}]}]"
    )
    edited = write_traffic(text, TWO)
    assert read_traffic(edited) == TWO
    assert "*shared" in edited


def test_an_anchor_on_the_traffic_itself_is_refused() -> None:
    text = (
        "applications: [{deployments: [{name: a, user_config: {traffic: &t [{bundle: x, weight: 100}]}}, "
        "{name: b, user_config: {traffic: *t}}]}]"
    )
    with pytest.raises(TrafficEditError, match="anchors"):
        write_traffic(text, TWO)
