"""The schemas that an API server would check objects with: Kubernetes' own, and those of CRDs.

CRDs are other projects' files and not part of this repository: `MARQUEE_CRDS` names the folder they lie in,
or they lie in `../shared/crds`. Rules in CEL (`x-kubernetes-validations`) are not evaluated here; a real API
server does it.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.chart.rendering import ROOT, Object, name

VERSIONS = ["1.30", "1.37"]
"""The oldest and the newest Kubernetes that the chart promises."""


def crd_folder() -> Path | None:
    """Where CRDs are, if anywhere."""
    given = os.environ.get("MARQUEE_CRDS")
    folder = Path(given) if given else ROOT.parent / "shared" / "crds"
    return folder if folder.is_dir() else None


def custom(found: Object) -> bool:
    """Whether a kind comes from a CRD: its API group has a dot, and is not one of Kubernetes' own."""
    group, slash, _ = found["apiVersion"].partition("/")
    return bool(slash) and "." in group and (not group.endswith(".k8s.io") or group.startswith("gateway."))


def faults(found: Object, version: str) -> list[str]:
    """What Kubernetes of that version says against an object of its own; unknown fields count."""
    group, _, api = found["apiVersion"].rpartition("/")
    prefix = f"{group.split('.')[0]}-" if group else ""
    return _told(_builtin(f"{found['kind'].lower()}-{prefix}{api}", version), found)


@cache
def _builtin(kind: str, version: str) -> Draft202012Validator:
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    return Draft202012Validator(schema_contents(f"{folder}/{kind}.json", version), registry=_registry(folder))


@cache
def _registry(folder: str) -> Any:
    definitions = schema_contents(f"{folder}/_definitions.json", folder)
    resource = Resource.from_contents(definitions, default_specification=DRAFT202012)
    return Registry().with_resource("_definitions.json", resource).crawl()  # once, and not at every look-up


def custom_faults(found: Object, folder: Path) -> list[str]:
    """What the CRD of an object says against it; fields it does not know count, but where it keeps them."""
    return _told(_custom(found["apiVersion"], found["kind"], folder), found)


@cache
def _custom(api_version: str, kind: str, folder: Path) -> Draft202012Validator:
    group, _, version = api_version.partition("/")
    for crd in _crds(folder):
        if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, kind):
            [served] = [
                each for each in crd["spec"]["versions"] if each["name"] == version and each["served"]
            ]
            return Draft202012Validator(_closed(served["schema"]["openAPIV3Schema"]))
    raise LookupError(f"no CRD for {kind} of {api_version} in {folder}")


@cache
def _crds(folder: Path) -> list[Object]:
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    files = sorted(folder.glob("*.yaml"))
    return [crd for file in files for crd in yaml.load_all(file.read_text(), Loader=loader) if crd]


def _closed(schema: Any) -> Any:
    """The schema as an API server that refuses unknown fields reads it, in JSON Schema's words."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        closed["properties"] = {key: _closed(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("nullable") and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    return closed


def _told(validator: Draft202012Validator, found: Object) -> list[str]:
    def deepest(error: ValidationError) -> Iterator[ValidationError]:
        yield from error.context or [error]

    errors = [inner for error in validator.iter_errors(found) for inner in deepest(error)]
    return [f"{name(found)} {error.json_path}: {error.message[:300]}" for error in errors]
