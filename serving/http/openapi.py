"""The part of `/openapi.json` that FastAPI cannot see, as our routes read bodies and write bytes themselves:
request models with examples, answers, and problems.

Does not belong here: anything that runs while a request is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from serving.http.problems import MEDIA_TYPE
from serving.http.schemas import Bounds, ProblemDocument, RankRequest, RecommendationRequest, SimilarRequest

_REF = "#/components/schemas/{model}"
_UNSEEN: tuple[type[Any], ...] = (RecommendationRequest, RankRequest, SimilarRequest, ProblemDocument)

Examples = Mapping[str, Mapping[str, Any]]

RECOMMENDATION_EXAMPLES: Examples = {
    "user": {
        "summary": "A known user, with reasons",
        "value": {"user_id": "196", "count": 10, "explain": True},
    },
    "session": {
        "summary": "Somebody without an id, by what they just did",
        "value": {"session": {"events": [{"item_id": "50", "value": 5}, {"item_id": "172", "value": 4}]}},
    },
    "filtered": {
        "summary": "Narrowed by properties, and more varied",
        "value": {
            "user_id": "196",
            "filter": {"genres": {"any": ["Drama", "Crime"]}, "year": {"gte": 1990}},
            "exclude_ids": ["50"],
            "diversity": {"method": "mmr", "strength": 0.5},
            "context": {"device": "tv"},
            "timeout_ms": 300,
        },
    },
}
RANK_EXAMPLES: Examples = {
    "user": {
        "summary": "The client's own items, in this user's order",
        "value": {"user_id": "196", "item_ids": ["50", "172", "133"], "explain": True},
    }
}
SIMILAR_EXAMPLES: Examples = {
    "filtered": {
        "summary": "Similar items of the nineties",
        "value": {"count": 5, "filter": {"year": {"gte": 1990, "lt": 2000}}},
    }
}


def body_of(model: type[BaseModel], examples: Examples, *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that parses this model itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    content = {"application/json": {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": required, "content": content}}


def path_parameter(name: str, description: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads this parameter itself."""
    parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [{**parameter, "description": description}]}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that fails in these ways."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=ProblemDocument.__name__)}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def document(app: FastAPI, bounds: Bounds) -> dict[str, Any]:
    """The whole OpenAPI 3.1 document, with the configured bounds in the schemas."""
    openapi = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    _, schemas = TypeAdapter.json_schemas(
        [(model.__name__, "validation", TypeAdapter(model)) for model in _UNSEEN], ref_template=_REF
    )
    for schema in schemas["$defs"].values():
        for name, described in schema.get("properties", {}).items():
            if name in bounds:
                limit = "maximum" if name == "timeout_ms" else "maxItems"
                described[limit] = int(bounds[name])
    openapi["components"]["schemas"].update(schemas["$defs"])
    return openapi
