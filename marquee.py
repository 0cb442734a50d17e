"""The `marquee` command. Mounts each package's `cli` module, imported only when its command is called."""

from __future__ import annotations

import importlib
import sys

import click
import typer
from typer.core import TyperGroup

COMMANDS = {
    # command: (module, what `marquee --help` says of it)
    "data": ("training.data.cli", "Fetch or read a data set and write it in the common schema."),
    "features": ("features.cli", "Build the features and materialise them into Redis."),
    "train": ("training.cli", "Train the models and write a bundle."),
    "evaluate": ("serving.evaluation_cli", "Evaluate the served pipeline on held-out interactions."),
    "serve": ("serving.cli", "Serve a bundle over HTTP on Ray Serve."),
    "recommend": ("serving.client_cli", "Ask a running server for a user's recommendations."),
    "similar": ("serving.client_cli", "Ask a running server for items similar to an item."),
}


class LazyGroup(TyperGroup):
    """Knows its commands by name and imports the one that runs: `marquee --help` costs no torch, no Ray."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if cmd_name not in sys.argv[1:2]:
            return click.Command(cmd_name, short_help=summary, help=summary)
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(cmd_name)(getattr(importlib.import_module(module), cmd_name))
        return typer.main.get_command(app)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False)


@app.callback(help="Marquee: Kubernetes-native recommendation serving.")
def _root() -> None: ...


def main() -> None:
    app(prog_name="marquee")


if __name__ == "__main__":
    main()
