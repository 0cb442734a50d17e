"""`marquee cluster status`: options and output.

Does not belong here: what is read (`k8s.status`).
"""

from __future__ import annotations

import dataclasses

import typer
from rich.markup import escape
from rich.table import Table

from k8s import console
from k8s.console import Context, Kubeconfig, Namespace, Output, OutputOption, failing, out, print_json
from k8s.rollout import describe
from k8s.status import Service, Status, read_status

cluster = typer.Typer(no_args_is_help=True, help="Look at what runs on a Kubernetes cluster.")

_GOOD = ("RUNNING", "HEALTHY", "Running")


@cluster.callback()
def _group() -> None:
    """Keeps `status` a command of its own while it is the only one."""


@cluster.command()
def status(
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show pods, GPUs, Serve applications, bundles in traffic, and worker groups."""
    with failing():
        api, where = console.cluster(kubeconfig, context, namespace)
        found = read_status(api, where)
    if output is Output.JSON:
        print_json(facts(found))
    else:
        show(found)


def facts(status: Status) -> dict[str, object]:
    """For scripts."""
    return {
        "namespace": status.namespace,
        "pods": [{"role": role, "phase": phase, "count": n} for (role, phase), n in status.pods.items()],
        "waits": list(status.waits),
        "gpus": None if status.gpus is None else dataclasses.asdict(status.gpus),
        "services": [
            {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
            | {
                "applications": [dataclasses.asdict(application) for application in one.applications],
                "groups": [dataclasses.asdict(group) for group in one.groups],
                "traffic": None if one.traffic is None else one.traffic.wire(),
                "behind": dict(one.behind),
            }
            for one in status.services
        ],
    }


def show(status: Status) -> None:
    pods = _table(f"Pods in {status.namespace}", "role", "phase", "pods")
    for (role, phase), count in status.pods.items():
        pods.add_row(escape(role), _coloured(phase), str(count))
    out.print(pods)
    if status.gpus is None:
        out.print("GPUs: unknown, these credentials may not list nodes and pods of the cluster")
    else:
        out.print(f"GPUs: {status.gpus.requested} of {status.gpus.allocatable} requested", highlight=False)
    for line in status.waits:
        out.print(f"[yellow]waiting:[/] {escape(line)}", highlight=False, soft_wrap=True)
    if not status.services:
        out.print(f"No RayService in {escape(status.namespace)}.")
    for service in status.services:
        _show_service(service)


def _show_service(service: Service) -> None:
    pending = f", next {service.pending}" if service.pending else ""
    traffic = escape(service.problem) if service.traffic is None else escape(describe(service.traffic))
    title = f"\nRayService {service.name}: {_coloured(service.status)}, cluster {service.cluster or 'none'}"
    out.print(f"{title}{pending}\nTraffic: {traffic}", highlight=False, soft_wrap=True)
    for who, what in service.behind.items():
        out.print(f"[yellow]behind: {escape(who)} {escape(what)}[/]", soft_wrap=True, highlight=False)
    deployments = _table("Serve", "application", "deployment", "status", "message")
    for application in service.applications:
        deployments.add_row(
            escape(application.name), "", _coloured(application.status), escape(application.message)
        )
        for one in application.deployments:
            deployments.add_row("", escape(one.name), _coloured(one.status), escape(one.message))
    groups = _table("Worker groups", "group", "ready", "desired", "min", "max")
    for group in service.groups:
        groups.add_row(escape(group.name), *map(str, (group.ready, group.desired, group.least, group.most)))
    for table in (deployments, groups):
        if table.row_count:
            out.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _coloured(state: str) -> str:
    return f"[green]{state}[/]" if state in _GOOD else f"[yellow]{escape(state)}[/]"
