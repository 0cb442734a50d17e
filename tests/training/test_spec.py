"""What a bundle declares is whole, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from training.recipe import default
from training.spec import Declaration

SOURCE = {"name": "a", "role": "source", "kind": "popular", "models": {"statistics": "s"}}
BLENDER = {"name": "b", "role": "blender", "kind": "cascade"}
COMPONENTS = {"s": {"kind": "item_statistics"}}


def whole(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"components": COMPONENTS, "pipelines": {"recommend": {"stages": stages, **more}}}


def test_a_declaration_survives_json() -> None:
    made = default().declaration()
    assert Declaration.model_validate(made.model_dump(mode="json", exclude_defaults=True)) == made


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        (whole(BLENDER), "needs a source and a blender"),
        (whole(SOURCE), "needs a source and a blender"),
        (whole(SOURCE, BLENDER, BLENDER), "one blender at most"),
        (whole(SOURCE, SOURCE, BLENDER), "two stages of a role have one name"),
        (whole({**SOURCE, "models": {"statistics": "gone"}}, BLENDER), "names component gone"),
        (whole({**SOURCE, "path": "os:system"}, BLENDER), "Extra inputs"),
        (whole({**SOURCE, "role": "writer"}, BLENDER), "'source', 'blender'"),
        (whole(SOURCE, BLENDER, hidden="some"), "'met', 'named' or 'nothing'"),
        (whole(), "at least 1 item"),
    ],
)
def test_what_is_not_whole_is_refused(declared: dict[str, Any], named: str) -> None:
    assert Declaration.model_validate(whole(SOURCE, BLENDER)).pipelines["recommend"].user
    with pytest.raises(ValidationError) as refused:
        Declaration.model_validate(declared)
    assert named in str(refused.value)
