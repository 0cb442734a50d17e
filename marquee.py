"""The `marquee` command. Mounts each package's `cli` module, imported only when its command is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from pathlib import Path

import typer

COMMANDS = {
    # command: (module that has the function or group of that name, what `marquee --help` says of it)
    "bootstrap": ("k8s.bootstrap_cli", "From nothing to a bundle: data, features, train, evaluate, publish."),
    "doctor": ("serving.cli", "Check that this machine can run Marquee."),
    "data": ("training.data.cli", "Fetch or read a data set and write it in the common schema."),
    "features": ("features.cli", "Build the features and materialise them into Redis."),
    "train": ("training.cli", "Train the models and write a bundle; or submit, list, cancel on a cluster."),
    "evaluate": ("serving.evaluation_cli", "Evaluate the served pipeline on held-out interactions."),
    "publish": ("training.publish_cli", "Copy a bundle to the store that replicas read."),
    "bundle": ("training.bundle_cli", "Look at a bundle, or write it in another form."),
    "serve": ("serving.cli", "Serve a bundle over HTTP on Ray Serve."),
    "exporter": ("serving.exporter_cli", "Show Prometheus the metrics of all replicas of a pod."),
    "recommend": ("serving.client_cli", "Ask a running server for a user's recommendations."),
    "similar": ("serving.client_cli", "Ask a running server for items similar to an item."),
    "verify": ("serving.client_cli", "Check that a running server answers somebody it knows in person."),
    "rollout": ("k8s.rollout_cli", "Move traffic between bundles: canary, shadow, promote, roll back."),
    "cluster": ("k8s.cluster_cli", "Look at what runs on a Kubernetes cluster."),
}

SUBCOMMANDS = {
    # command that also works alone: module whose `mount` adds subcommands to it
    "train": "k8s.train_cli",
}


def build(called: str | None) -> typer.Typer:
    """The command line. Only the command that is called is imported: `--help` costs no torch and no Ray."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help="Marquee: Kubernetes-native recommendation serving.")(_root)
    for name, (module, summary) in COMMANDS.items():
        command = getattr(importlib.import_module(module), name) if name == called else _root
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif name == called and name in SUBCOMMANDS:
            group = typer.Typer(invoke_without_command=True, help=summary)
            group.callback()(command)
            importlib.import_module(SUBCOMMANDS[name]).mount(group)
            app.add_typer(group, name=name)
        else:
            app.command(name, help=summary)(command)
    return app


def _root() -> None: ...


def write_any_letter() -> None:
    """What the terminal's encoding has no letter for is written as its code instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Every command ends with its own words, or as `features.console.unexpected` says; MARQUEE_DEBUG shows
    tracebacks."""
    write_any_letter()
    try:
        build(next(iter(sys.argv[1:]), None))(prog_name="marquee")
    except KeyboardInterrupt:  # while a command is imported, which takes torch seconds
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MARQUEE_DEBUG"):
            raise
        from features.console import unexpected

        try:
            unexpected(error, Path(os.environ.get("MARQUEE_HOME") or ".marquee"))
        except typer.Exit as end:
            sys.exit(end.exit_code)


if __name__ == "__main__":
    main()
