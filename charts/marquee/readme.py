"""Writes the tables of README.md from the `# --` comments of values.yaml:
python charts/marquee/readme.py [--check].

A value's comment stands right above its key, and says what it is, its unit and why this default. Does not
belong here: the rest of the README, which is written by hand outside the two markers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


class Value(NamedTuple):
    """One value, or a group of them (`default` None) whose comment introduces the rest."""

    path: tuple[str, ...]
    said: str
    default: str | None


class Undocumented(Exception):
    """A value without a comment."""


def values(text: str) -> list[Value]:
    """Every value of the file, in its order.

    Raises:
        Undocumented: one has no `# --` comment, and neither has a group that it belongs to as a whole.
    """
    return list(_below(yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text), text.splitlines(), ()))


def _below(node: Any, value: Any, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    for key, child in node.value:
        name, here = key.value, value[key.value]
        said, place = _comment(lines, key.start_mark.line), (*path, name)
        inner = list(_below(child, here, lines, place)) if _is_group(child, here, lines) else None
        if inner is None and said is None:
            raise Undocumented(
                f"values.yaml:{key.start_mark.line + 1}: {'.'.join(place)} has no `# --` comment"
            )
        if said is not None:
            yield Value(place, said, None if inner is not None else json.dumps(here, ensure_ascii=False))
        yield from inner or ()


def _is_group(node: Any, value: Any, lines: list[str]) -> bool:
    """Whether the members are values of the chart's own. Of others, such as resources, none has a comment."""
    return (
        isinstance(value, dict)
        and bool(value)
        and not node.flow_style
        and (
            _comment(lines, node.value[0][0].start_mark.line) is not None
            or any(_is_group(child, value[key.value], lines) for key, child in node.value)
        )
    )


def _comment(lines: list[str], key_line: int) -> str | None:
    """What the comment right above a line says, joined; None where there is none."""
    said: list[str] = []
    for line in reversed(lines[:key_line]):
        text = line.strip()
        if text.startswith("# -- "):
            return " ".join([text.removeprefix("# -- "), *reversed(said)])
        if not text.startswith("# "):
            return None
        said.append(text.removeprefix("# "))
    return None


def tables(found: list[Value]) -> str:
    """One table for each top-level value that has others below, and one for those that have none."""
    groups: dict[str, list[Value]] = {}
    for each in found:
        alone = len(each.path) == 1 and each.default is not None
        groups.setdefault("" if alone else each.path[0], []).append(each)
    return "\n".join(_table(name, rows) for name, rows in groups.items())


def _table(name: str, rows: list[Value]) -> str:
    intro = next((row.said for row in rows if row.path == (name,)), None)
    head = [f"### {f'`{name}`' if name else 'Names and users'}", ""]
    if intro:
        head += [intro, ""]
    head += ["| value | default | what it is |", "| --- | --- | --- |"]
    return "\n".join(head + [_row(row) for row in rows if row.path != (name,)]) + "\n"


def _row(row: Value) -> str:
    default = "" if row.default is None else f"`{row.default}`"
    cells = (f"`{'.'.join(row.path)}`", default, row.said)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the README is up to date")
    check = parser.parse_args().check
    written = README.read_text(encoding="utf-8")
    before, _, rest = written.partition(BEGIN)
    after = rest.partition(END)[2]
    try:
        made = tables(values((HERE / "values.yaml").read_text(encoding="utf-8")))
    except Undocumented as error:
        print(error, file=sys.stderr)
        return 1
    whole = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if check and whole != written:
        print(f"{README} is behind values.yaml: run python charts/marquee/readme.py", file=sys.stderr)
        return 1
    if not check:
        README.write_text(whole, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
