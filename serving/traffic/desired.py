"""The traffic that a whole service shall have, as one JSON document: on Kubernetes the ConfigMap that the
control plane writes and every replica follows (`serving.traffic.following`).

Does not belong here: how the document gets to the replicas, and what they make of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.config import Traffic, TrafficEntry
from serving.errors import ServingError

KEY = "traffic.json"
"""Name of the document in the ConfigMap, and so of the file that replicas read."""

IN_SERVICE, REFUSED, WAITING = "marquee_traffic_ratio", "marquee_traffic_refused", "marquee_traffic_waiting"
"""Gauges by which a replica answers it: what it serves, what it did not take, what it waits for
(`serving.traffic.standing`)."""

MAX_BYTES = 65_536
"""Of the document: eight entries with the longest URLs take a quarter of it."""


class InvalidTraffic(ServingError):
    """A document that is no traffic; the text says what is wrong in it."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: Annotated[int, Field(strict=True, ge=0)] = 0
    traffic: tuple[TrafficEntry, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """Attributes:
    revision: grows with each write of Marquee's own, for people and logs; replicas go by the content.
    """

    traffic: Traffic
    revision: int = 0

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Raises InvalidTraffic where the text is no JSON, or no table that makes sense."""
        if len(text) > MAX_BYTES:
            raise InvalidTraffic(f"{KEY} has {len(text):,} bytes; traffic takes at most {MAX_BYTES:,}")
        try:
            document = _Document.model_validate_json(text)
            return cls(Traffic(traffic=document.traffic), document.revision)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InvalidTraffic(f"{KEY}: {where}: {first['msg']}") from None

    def to_json(self) -> str:
        """One entry a line, as people edit it with kubectl."""
        entries = ",\n".join(f"    {json.dumps(entry, ensure_ascii=False)}" for entry in self.traffic.wire())
        return f'{{\n  "revision": {self.revision},\n  "traffic": [\n{entries}\n  ]\n}}\n'
