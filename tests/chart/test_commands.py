"""Every `marquee …` that a pod runs is a command of this repository, with options that it has."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

import marquee
from tests.chart.pods import pods
from tests.chart.rendering import Object


def commands(objects: list[Object]) -> Iterator[list[str]]:
    """The words after `marquee`, of every container that runs it."""
    for each in objects:
        for pod in pods(each):
            for _, container in pod.containers():
                words = [*(container.get("command") or []), *(container.get("args") or [])]
                if words[:1] == ["marquee"]:
                    yield words[1:]
    for each in objects:
        if each["kind"] == "RayJob":
            yield each["spec"]["entrypoint"].split()[1:]


def wrong(words: list[str]) -> str | None:
    """What is wrong with a command, if anything."""
    if words[0] not in marquee.COMMANDS:
        return f"there is no `marquee {words[0]}`"
    command: Any = typer.main.get_command(marquee.build(words[0]))
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in options]
    return f"`{command.name}` has no {unknown}" if unknown else None


@pytest.mark.parametrize("words", [["features"], ["evaluate", "--into", "README.md"]])
def test_a_command_that_there_is_passes(words: list[str]) -> None:
    assert wrong(words) is None


@pytest.mark.parametrize("words", [["moonwalk"], ["serve", "--moonwalk"], ["serve", "--into", "README.md"]])
def test_one_that_there_is_not_is_found(words: list[str]) -> None:
    assert wrong(words)


def test_pods_run_commands_that_there_are(objects: list[Object]) -> None:
    found = list(commands(objects))
    assert found
    assert [said for words in found if (said := wrong(words))] == []
