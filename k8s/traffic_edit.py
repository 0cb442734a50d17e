"""The traffic inside `serveConfigV2`, a YAML text that people and Helm wrote: read it, and write it so that
every other byte stays, comments too.

Loading and dumping the text would be shorter and wrong: YAML readers disagree about plain scalars (`1e3`,
`on`), so a dump by one reader may mean something else to KubeRay's.

Does not belong here: what the traffic should be.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import yaml
from pydantic import ValidationError
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from k8s.errors import ControlError
from serving.config import Traffic


class TrafficEditError(ControlError):
    """The text cannot be read or edited safely."""


class NotOneTable(TrafficEditError):
    """There is traffic, but no valid table that all deployments share: an edit half done."""


def read_traffic(text: str) -> Traffic:
    """The traffic that all deployments with a `user_config.traffic` share.

    Raises:
        TrafficEditError: no YAML, or no traffic in it.
        NotOneTable: invalid traffic, or deployments that disagree.
    """
    found = list(_user_configs(_load(text)))
    if not found:
        raise TrafficEditError("serveConfigV2 has no deployment with user_config.traffic")
    try:
        tables = [Traffic.model_validate({"traffic": user_config["traffic"]}) for user_config in found]
    except ValidationError as error:
        raise NotOneTable(f"traffic in serveConfigV2 is invalid: {error.errors()[0]['msg']}") from None
    if any(table != tables[0] for table in tables):
        raise NotOneTable("deployments in serveConfigV2 disagree about traffic: make them alike by hand")
    return tables[0]


def write_traffic(text: str, traffic: Traffic) -> str:
    """The text with this traffic in every deployment that has one.

    Raises:
        TrafficEditError: as `read_traffic`, or the traffic cannot be replaced alone (YAML anchors in it).
    """
    wanted = wire(traffic)
    meant = copy.deepcopy(_load(text))
    for user_config in _user_configs(meant):
        user_config["traffic"] = wanted
    edited = text
    flow = f": {json.dumps(wanted, ensure_ascii=False)}"
    for start, end in sorted(_spans(text), reverse=True):
        edited = edited[:start] + flow + edited[end:]
    try:
        same = _load(edited) == meant
    except TrafficEditError:
        same = False
    if not same:
        raise TrafficEditError(
            "cannot replace traffic alone in serveConfigV2: write it without YAML anchors or merges"
        )
    return edited


def wire(traffic: Traffic) -> list[dict[str, Any]]:
    """As it is written in `user_config` and sent to the admin endpoint; what is not set is left out."""
    return cast(list[dict[str, Any]], traffic.model_dump(mode="json", exclude_defaults=True)["traffic"])


def _load(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise TrafficEditError(f"serveConfigV2 is not YAML: {str(error).splitlines()[0]}") from None


def _user_configs(config: Any) -> Iterator[dict[str, Any]]:
    """Every `applications[*].deployments[*].user_config` that has traffic."""
    for application in _items(config, "applications"):
        for deployment in _items(application, "deployments"):
            user_config = deployment.get("user_config") if isinstance(deployment, dict) else None
            if isinstance(user_config, dict) and "traffic" in user_config:
                yield user_config


def _items(mapping: Any, key: str) -> list[Any]:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, list) else []


def _spans(text: str) -> set[tuple[int, int]]:
    """(start, end) of what stands between each `traffic` key and the end of its value."""
    spans = set()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for application in _elements(_value(root, "applications")):
        for deployment in _elements(_value(application, "deployments")):
            for key, value in _pairs(_value(deployment, "user_config")):
                if key.value == "traffic":
                    spans.add((key.end_mark.index, _end(value)))
    return spans


def _pairs(node: Node | None) -> list[tuple[Node, Node]]:
    return node.value if isinstance(node, MappingNode) else []


def _elements(node: Node | None) -> list[Node]:
    return node.value if isinstance(node, SequenceNode) else []


def _value(node: Node | None, key: str) -> Node | None:
    return next((value for name, value in _pairs(node) if name.value == key), None)


def _end(node: Node) -> int:
    """Where a value's last character stands. PyYAML ends a block collection where the next token starts,
    beyond comments that belong to what follows."""
    if isinstance(node, ScalarNode) or cast(CollectionNode, node).flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)
