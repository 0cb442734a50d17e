"""`marquee bootstrap`: options and output.

Does not belong here: the sequence (`k8s.bootstrap`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k8s.bootstrap import Ask, Processes, Stopped
from k8s.bootstrap import bootstrap as run
from k8s.console import Context, Kubeconfig, Namespace, cluster, failing
from k8s.first_bundle import FirstBundle


def bootstrap(
    dataset: Annotated[
        str | None, typer.Option(envvar="DATASET", help="As of `marquee data`; by default ml-100k.")
    ] = None,
    dataset_path: Annotated[
        str | None, typer.Option(envvar="DATASET_PATH", help="As of `marquee data`: your own tables.")
    ] = None,
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")
    ] = Path(".marquee"),
    publish: Annotated[
        str | None,
        typer.Option(envvar="MARQUEE_PUBLISH", help="Folder or URL that the bundle is published to."),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Measure the bundle before it is published.")
    ] = True,
    service: Annotated[
        str | None,
        typer.Option(
            help="On a cluster: the RayService that the bundle is for, where it has no traffic yet."
        ),
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """From nothing to a bundle: data, features, training, evaluation, store; on a cluster traffic, too. What
    is done is used again."""
    if service is not None and publish is None:
        raise typer.BadParameter("--service needs --publish: replicas read the bundle from a store")
    processes = Processes()
    with failing(), processes.stoppable():
        try:
            first = None
            if service is not None:
                api, where = cluster(kubeconfig, context, namespace)
                first = FirstBundle(api, where, service)
            run(Ask(home, dataset, dataset_path, publish, evaluate), first, processes.run, _said)
        except Stopped:
            _said("stopped; run again, it goes on where it was")
            raise typer.Exit(130) from None


def _said(line: str) -> None:
    """Plain lines: the log of a Job is read like the screen."""
    typer.echo(f"bootstrap: {line}")
