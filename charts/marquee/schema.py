"""Writes `properties.config` of values.schema.json from ServeConfig, so that the chart refuses what the
application would: python charts/marquee/schema.py [--check].

Does not belong here: the rest of the schema, which is written by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from serving.config import ServeConfig

SCHEMA = Path(__file__).with_name("values.schema.json")


def config_schema() -> dict[str, Any]:
    """ServeConfig as a schema without references. `ingress` and `groups` are left out, as `replicas` of the
    values makes them. The chart itself says what to write instead of `placement`, and that `bundle` is
    missing, so the one is let through and the other not required."""
    made = ServeConfig.model_json_schema()
    inlined: dict[str, Any] = _inlined(made, made["$defs"])
    properties = inlined["properties"]
    del properties["ingress"], properties["groups"]
    properties["placement"] = {"description": "of earlier versions: the chart says what is written instead"}
    return {name: part for name, part in inlined.items() if name != "required"}


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """`part` with references replaced by what they name (draft 7 ignores what stands beside one), without
    titles, and without defaults, which belong to the application."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    dropped = {"$defs", "title", "default"}
    return {
        name: {key: _inlined(value, definitions) for key, value in each.items()}
        if name == "properties"
        else _inlined(each, definitions)
        for name, each in part.items()
        if name not in dropped
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the schema is up to date")
    check = parser.parse_args().check
    written = SCHEMA.read_text(encoding="utf-8")
    schema = json.loads(written)
    schema["properties"]["config"] = config_schema()
    made = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if check and made != written:
        print(f"{SCHEMA} is behind serving/config.py: run python charts/marquee/schema.py", file=sys.stderr)
        return 1
    if not check:
        SCHEMA.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
