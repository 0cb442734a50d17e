"""`marquee exporter`: the metrics of a pod's replicas for Prometheus. On Kubernetes it runs beside them,
where a scrape of one replica would miss the others."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from features.console import fail
from serving.settings import SettingError, Settings

STOP = (signal.SIGINT, signal.SIGTERM)


def exporter(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 9464,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; Prometheus comes from outside."),
    ] = "0.0.0.0",
    folder: Annotated[
        Path | None, typer.Option(help="Where the replicas write.  [env: MARQUEE_METRICS_DIR]")
    ] = None,
) -> None:
    """Show the metrics of all replicas of this pod, until it is stopped."""
    from prometheus_client import CollectorRegistry, start_http_server

    from serving.deployments.exposition import Totals

    shared = folder or Settings.read().metrics_dir
    if shared is None or not shared.is_dir():
        fail(SettingError("name the folder that the replicas write into: --folder or MARQUEE_METRICS_DIR"))
    registry = CollectorRegistry()
    registry.register(Totals.of_replicas(shared))
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before the server's threads inherit the mask
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        fail(SettingError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"))
    typer.echo(f"metrics of {shared} at http://{host}:{port}/metrics")
    signal.sigwait(STOP)
    server.shutdown()
    server.server_close()
