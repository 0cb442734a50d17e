"""`marquee train submit|logs|list|cancel`: options and output. `marquee train` alone is `training.cli`'s.

Does not belong here: what a job is (`k8s.jobs`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from k8s import jobs
from k8s.console import (
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    cluster,
    failing,
    out,
    print_json,
)
from k8s.job_follow import following
from k8s.job_state import jobs as list_of

Release = Annotated[str, typer.Option(help="The Helm release, whose template and labels are used.")]
Manifest = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="A RayJob in YAML, instead of the release's.")
]
JobName = Annotated[str, typer.Argument(help="A RayJob's name, as `marquee train list` shows it.")]


def mount(train: typer.Typer) -> None:
    """Adds the commands."""
    for command in (submit, logs, list_jobs, cancel):
        train.command("list" if command is list_jobs else command.__name__)(command)


def submit(
    release: Release = "marquee",
    manifest: Manifest = None,
    image: Annotated[str | None, typer.Option(help="By default the template's.")] = None,
    claim: Annotated[
        str | None, typer.Option(help="Without a template: the volume claim that the pods share.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker pods.")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, max=16, help="GPUs of each worker; a process trains on each.")
    ] = None,
    cpus: Annotated[str | None, typer.Option(help="Cores of each worker, e.g. 4.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of each worker, e.g. 16Gi.")] = None,
    entrypoint: Annotated[str | None, typer.Option(help="The command, instead of the template's.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what it waits for and its log; 1 where it fails.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Train on the cluster: a RayJob with workers of its own."""
    sizes = jobs.Sizes(image, workers, gpus, cpus, memory, entrypoint)
    with failing():
        api, where = cluster(kubeconfig, context, namespace)
        if manifest is not None:
            job = jobs.parse(manifest.read_text(encoding="utf-8"))
        else:
            job = jobs.template(api, where, release, image, claim)
        name = jobs.submit(api, where, release, job, sizes)
        if output is Output.JSON:
            print_json({"namespace": where, "name": name})
        else:
            out.print(f"Submitted {name}; `marquee train logs {name} -n {where} --follow`", soft_wrap=True)
        if follow:
            ended = following(api, where, name, typer.echo)
            if not ended.good:
                raise jobs.JobError(f"{name} failed: {ended.message or ended.status or ended.deployment}")


def logs(
    name: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Only the latest lines.")] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show a training's log."""
    with failing():
        api, where = cluster(kubeconfig, context, namespace)
        for line in jobs.logs(api, where, name, follow=follow, tail=tail):
            typer.echo(line)


def list_jobs(
    release: Release = "marquee",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the trainings of a release, newest first."""
    with failing():
        api, where = cluster(kubeconfig, context, namespace)
        found = list_of(api, where, release)
    if output is Output.JSON:
        print_json([dataclasses.asdict(job) for job in found])
        return
    table = Table(title=f"Trainings of {escape(release)} in {escape(where)}", title_justify="left")
    table.add_column("name", no_wrap=True)  # to be copied whole
    for column in ("job", "deployment", "started", "ended", "message"):
        table.add_column(column, overflow="fold")
    for job in found:
        cells = (job.name, job.status, job.deployment, job.started, job.ended, job.message)
        table.add_row(*map(escape, cells))
    out.print(table if found else f"No training of {escape(release)} in {escape(where)} yet.")


def cancel(
    name: JobName,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the RayJob, its log too.")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Stop a training and free its pods."""
    with failing():
        api, where = cluster(kubeconfig, context, namespace)
        jobs.cancel(api, where, name, delete=delete)
    out.print(f"{'Deleted' if delete else 'Suspended'} {escape(name)}")
