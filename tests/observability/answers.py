"""Asks a Prometheus everything that the dashboards and alerts ask, and fails where there is no data.

    assert_every_query_answers("http://127.0.0.1:9090", keep_busy)

`elsewhere` leaves out queries about series that this set-up does not make. A cluster makes them all but those
in `NOT_HERE`, and must not be given one.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

CHART = Path(__file__).parents[2] / "charts/marquee/files"

NOT_HERE: Mapping[str, str] = {
    "ray_node_gpus_utilization": "needs an NVIDIA GPU: Ray reads it from the driver",
    "ray_node_gram_used": "needs an NVIDIA GPU: Ray reads it from the driver",
    "ray_cluster_active_nodes": "needs Ray's autoscaler, which a run on one machine leaves out",
}
"""Series that a run on one machine without a GPU cannot make, and why. One that is there after all has to go
from here."""

PATIENCE_S = 90.0
"""Seconds for scrapes, rules and rates to have something; a bound, not an expectation."""

VARIABLES = {"$__rate_interval": "1m", "$namespace": ".*", "$job": ".*"}

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")
_WORDS = {"and", "or", "unless", "offset", "bool", "by", "on"}
_DURATION = re.compile(r"\boffset\s+\w+")
_COMPARED = re.compile(r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|(==|!=|<=|>=|<|>)')


@dataclass(frozen=True, slots=True)
class Asked:
    where: str
    expr: str

    @property
    def metrics(self) -> set[str]:
        return metrics(self.expr)


def asked() -> list[Asked]:
    """Everything that dashboards and alerts ask."""
    return [*_dashboards(), *_alerts()]


def _dashboards() -> Iterator[Asked]:
    for path in sorted((CHART / "dashboards").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                selector = re.fullmatch(r"label_values\((.+), \w+\)", variable["definition"])
                assert selector, variable["definition"]
                yield Asked(f"{path.stem}: ${variable['name']}", _filled(selector[1]))
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield Asked(f"{path.stem}: {panel['title']}", _filled(target["expr"]))


def _filled(expr: str) -> str:
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def _alerts() -> Iterator[Asked]:
    for path in sorted((CHART / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                yield Asked(f"{path.stem}: {name}", whether(rule["expr"]))


def whether(expr: str) -> str:
    """The expression with answers 0 and 1 where it would answer nothing and something: it then has data
    wherever what it compares has."""
    return _COMPARED.sub(lambda found: f"{found[0]} bool" if found[1] else found[0], expr)


def metrics(expr: str) -> set[str]:
    """Names of the series that an expression reads."""
    bare = _DURATION.sub("", _LABELS.sub(" ", _QUOTED.sub('""', expr)))
    return {name for name in _NAME.findall(bare) if name not in _WORDS and not name.isdigit()}


def assert_every_query_answers(
    prometheus_url: str,
    keep_busy: Callable[[], object],
    *,
    elsewhere: Callable[[str], bool] = lambda metric: False,
    absent: Mapping[str, str] = NOT_HERE,
    questions: list[Asked] | None = None,
    patience_s: float = PATIENCE_S,
) -> list[Asked]:
    """Asks again and again until everything is answered or `patience_s` has passed, and returns what was.

    Args:
        keep_busy: makes a little traffic; called before every round, because rates need it.
        elsewhere: whether this set-up does not make the metric.
        absent: metric → why it cannot be there.

    Raises:
        AssertionError: a query has no data, or a metric that cannot be there is.
    """
    wanted = [
        one for one in (asked() if questions is None else questions) if not any(map(elsewhere, one.metrics))
    ]
    open_, impossible = [], []
    for one in wanted:
        (impossible if one.metrics & absent.keys() else open_).append(one)
    end = time.monotonic() + patience_s
    with httpx.Client(base_url=prometheus_url, timeout=10, trust_env=False) as client:
        unanswered = open_
        while unanswered and time.monotonic() < end:
            keep_busy()
            unanswered = [one for one in unanswered if not _answers(client, one.expr)]
        present = [name for name in absent if not elsewhere(name) and _answers(client, name)]
    told = "\n".join(f"  {one.where}\n    {' '.join(one.expr.split())}" for one in unanswered)
    assert not unanswered, f"no data for {len(unanswered)} of {len(open_)} queries:\n{told}"
    assert not present, f"said to be impossible here, but there: {', '.join(present)}"
    return open_


def _answers(client: httpx.Client, expr: str) -> bool:
    """Whether there is a number: nothing, and 0/0, are no data."""
    response = client.post("/api/v1/query", data={"query": expr})
    assert response.status_code == 200, f"{expr}\n{response.text}"
    result = response.json()["data"]["result"]
    return any(not math.isnan(float(series["value"][1])) for series in result)
