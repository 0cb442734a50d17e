"""Which stages run where: what a configuration may say of it, and what it is told otherwise."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.build import STAGES
from serving.config import INGRESS, GroupConfig, IngressConfig, LimitsConfig, ServeConfig, Stage
from serving.deployments.ingress import Ingress

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # what is wrong: (the fields, what the message names)
    "a stage in two groups": (
        {"groups": {"a": {"stages": ["retrieval", "ranking"]}, "b": {"stages": ["ranking"]}}},
        "ranking is in the groups a and b: leave it in one",
    ),
    "a group of nothing": ({"groups": {"a": {"stages": []}}}, "name one or more of retrieval, ranking"),
    "a GPU that no runtime uses": (
        {"groups": {"a": {"stages": ["ranking"], "num_gpus": 1}}},
        "num_gpus asks for a GPU that runtime onnx does not use: set runtime: torch, or num_gpus: 0",
    ),
    "a runtime that is none": ({"ingress": {"runtime": "numpy"}}, "onnx"),
    "a group that names no stages": ({"groups": {"a": {"num_gpus": 1}}}, "Field required"),
    "a stage that there is not": ({"groups": {"a": {"stages": ["search"]}}}, "'retrieval', 'ranking'"),
    "a group named as the ingress": ({"groups": {"Ingress": {"stages": ["ranking"]}}}, "named 'Ingress'"),
    "its name in other letters": ({"groups": {"ingress": {"stages": ["ranking"]}}}, "named 'ingress'"),
    "what Ray Serve refuses": ({"groups": {"a#b": {"stages": ["ranking"]}}}, "cannot be named 'a#b'"),
    "no name": ({"groups": {"": {"stages": ["ranking"]}}}, "cannot be named ''"),
    "a name of many letters": ({"groups": {"a" * 64: {"stages": ["ranking"]}}}, "cannot be named"),
    "a name of two lines": ({"groups": {"a\n": {"stages": ["ranking"]}}}, "cannot be named"),
    "the placement of before": ({"placement": {"ranking": "deployment"}}, "`placement` is now `groups`"),
    "the limits of before": ({"retrieval": {"ease": 10}}, "`retrieval` is part of the bundle now"),
    "the terms of before": ({"explain": {"contributions": 1}}, "`explain` is part of the bundle now"),
    "the pool of before": ({"diversity": {"pool": 50}}, "`pool` is part of the bundle now"),
    "the deployments of before": ({"deployments": {}}, "`deployments` is now `ingress: {...}` and `groups:"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(case: str) -> None:
    fields, named = REFUSED[case]
    with pytest.raises(ValidationError) as refused:
        ServeConfig.model_validate({"bundle": "b", **fields})
    [error] = refused.value.errors()
    assert named in error["msg"]
    assert "\n" not in error["msg"]


def test_the_names_of_stages_are_the_pipeline_s() -> None:
    assert get_args(Stage) == STAGES


def test_by_default_there_is_no_group() -> None:
    assert ServeConfig(bundle="b").groups == {}


@given(stages=st.lists(st.sampled_from(STAGES), min_size=1))
def test_the_order_of_a_group_s_stages_is_the_pipeline_s(stages: list[Stage]) -> None:
    kept = GroupConfig(stages=tuple(stages)).stages
    assert set(kept) == set(stages)
    assert [*kept] == sorted(set(stages), key=STAGES.index)


@given(group_of=st.dictionaries(st.sampled_from(STAGES), st.sampled_from(["a", "b-2", "C_3"])))
def test_stages_may_be_grouped_in_every_way(group_of: dict[Stage, str]) -> None:
    groups = {
        name: {"stages": [stage for stage in group_of if group_of[stage] == name]}
        for name in group_of.values()
    }
    config = ServeConfig.model_validate({"bundle": "b", "groups": groups})
    assert {stage: name for name, group in config.groups.items() for stage in group.stages} == group_of
    assert ServeConfig.model_validate_json(config.model_dump_json()) == config


def test_an_ingress_of_another_size_still_refuses_in_its_own_words() -> None:
    """Beyond `in_flight` it answers problem+json, beyond `max_ongoing_requests` Ray Serve plain text."""
    config = ServeConfig.model_validate({"bundle": "b", "ingress": {"num_cpus": 2}})
    assert config.ingress.max_ongoing_requests > LimitsConfig().in_flight
    assert config.ingress == IngressConfig(num_cpus=2)


def test_the_ingress_is_named_after_its_class() -> None:
    assert Ingress.__name__ == INGRESS
