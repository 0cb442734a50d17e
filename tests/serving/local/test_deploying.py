"""What a step of a local run ends with is said in words where the user can do something about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.local import deploying
from serving.local.deploying import obey


def test_a_machine_too_busy_for_ray_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:  # as Ray does
        raise Exception("The current node timed out during startup.\nThe GCS has become overloaded.")

    monkeypatch.setattr(deploying, "lasting_ray", slow)
    answer = obey(json.dumps({"step": "start_ray", "folder": "/tmp", "port": 1, "num_gpus": None}))
    assert list(answer) == ["failed"]
    assert answer["failed"].startswith(
        "Ray did not start: The current node timed out during startup. The GCS"
    )
    assert answer["failed"].endswith("try again")
    assert "\n" not in answer["failed"]
