"""`marquee rollout`: options and output. With --url it moves the traffic of one server, else of a RayService.

Does not belong here: what a rollout does (`k8s.operations`, `k8s.driver`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from k8s import console
from k8s.bounds import carry_bounds
from k8s.console import (
    DEFAULT_NAME,
    Context,
    Kubeconfig,
    Name,
    Namespace,
    Output,
    OutputOption,
    cluster,
    failing,
    seconds,
)
from k8s.controller import Controller, NamespaceFleet, SingleFleet
from k8s.driver import Driver
from k8s.first_bundle import FirstBundle
from k8s.local import LocalTarget, admin_token
from k8s.operations import Wish, ask_promotion, ask_rollback
from k8s.operations import start as start_rollout
from k8s.plan import DEFAULT_SHADOW_S, DEFAULT_STEPS, PATIENCE_WINDOWS, WINDOW_S, Phase, Rollout, Step
from k8s.rayservice import RayServiceTarget
from k8s.rollout_view import Shown, facts, show_status
from k8s.scrape import ScrapeSource
from k8s.signals import PrometheusSource, SignalSource
from k8s.target import Target
from k8s.wishes import parse_guardrails, parse_steps, write_steps

rollout = typer.Typer(
    no_args_is_help=True,
    help="Move traffic between bundles: in steps, watched, and back by itself. Ends with 0 where the bundle "
    "was promoted (a shadow: was good), 1 where it was rolled back or stopped, 2 for a wrong command line.",
)

Url = Annotated[
    str | None,
    typer.Option(help="A server without a cluster, e.g. http://127.0.0.1:8000; its admin endpoint."),
]
Home = Annotated[
    Path,
    typer.Option(envvar="MARQUEE_HOME", help="With --url: where the admin token and the record are."),
]
Prometheus = Annotated[
    str | None,
    typer.Option(
        envvar="MARQUEE_PROMETHEUS_URL",
        help="Where the signals are read. With --url by default from the server's own /metrics.",
    ),
]
Matchers = Annotated[
    str | None,
    typer.Option(help="""PromQL label matchers for every series; by default 'namespace="<namespace>"'."""),
]
Bundle = Annotated[str, typer.Argument(help="fsspec URL or path of the new bundle, as the replicas see it.")]
Version = Annotated[
    str | None, typer.Option("--version", help="The bundle's version, where its URL does not end with it.")
]
Window = Annotated[str, typer.Option(help="Evaluation window: 90s, 2m. A bad bundle is back within two.")]
Patience = Annotated[int, typer.Option(min=1, help="Windows without enough data before it is rolled back.")]
Guardrail = Annotated[
    list[str] | None,
    typer.Option(
        "--guardrail", "-g", help="NAME=LIMIT, repeatable; names and defaults: docs/control-plane.md."
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Only write the plan; a running `marquee rollout watch` drives it.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """Whose traffic, and who is asked how it does."""

    target: Target
    signals: SignalSource | None


@rollout.command()
def canary(
    bundle: Bundle,
    steps: Annotated[
        str, typer.Option(help="PERCENT:TIME,...: each step's share of users, and how long at least.")
    ] = write_steps(DEFAULT_STEPS),
    version: Version = None,
    window: Window = f"{WINDOW_S:g}s",
    patience: Patience = PATIENCE_WINDOWS,
    guardrail: Guardrail = None,
    detach: Detach = False,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    prometheus: Prometheus = None,
    matchers: Matchers = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a bundle a growing share of the users, then all; back by itself where a guardrail breaks."""
    limits = parse_guardrails(guardrail or [])
    wish = Wish("canary", bundle, parse_steps(steps), version, seconds(window), patience, limits)
    with failing():
        place = _place(url, name, namespace, kubeconfig, context, prometheus, matchers, home)
        _begin(place, wish, detach, output)


@rollout.command()
def shadow(
    bundle: Bundle,
    duration: Annotated[str, typer.Option(help="How long at least.")] = f"{DEFAULT_SHADOW_S / 60:g}m",
    version: Version = None,
    window: Window = f"{WINDOW_S:g}s",
    patience: Patience = PATIENCE_WINDOWS,
    guardrail: Guardrail = None,
    detach: Detach = False,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    prometheus: Prometheus = None,
    matchers: Matchers = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a bundle copies of production's requests and compare its answers, which nobody gets."""
    limits = parse_guardrails(guardrail or [])
    step = Step(0, seconds(duration))
    wish = Wish("shadow", bundle, (step,), version, seconds(window), patience, limits)
    with failing():
        place = _place(url, name, namespace, kubeconfig, context, prometheus, matchers, home)
        _begin(place, wish, detach, output)


@rollout.command()
def promote(
    bundle: Annotated[
        str | None, typer.Argument(help="By default the rollout's candidate, or the one canary in traffic.")
    ] = None,
    detach: Detach = False,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a bundle all traffic now, whatever the guardrails say."""
    with failing():
        place = _place(url, name, namespace, kubeconfig, context, None, None, home)
        _follow(place, ask_promotion(place.target, bundle), detach, output, (Phase.PROMOTED,))


@rollout.command()
def rollback(
    detach: Detach = False,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Give production all traffic back now: from a rollout, a split made by hand, or the latest promotion.
    Ends with 0 where that is done."""
    with failing():
        place = _place(url, name, namespace, kubeconfig, context, None, None, home)
        wanted = (Phase.ROLLED_BACK, Phase.PROMOTED)
        _follow(place, ask_rollback(place.target), detach, output, wanted)


@rollout.command()
def first(
    bundle: Bundle,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Put the first bundle into service where no traffic is wanted yet; changes nothing where there is some.
    On a cluster only: `marquee serve` names its own."""
    with failing():
        api, where = cluster(kubeconfig, context, namespace)
        service = FirstBundle(api, where, name)
        if (there := service.bundle()) is None and service.bring(bundle):
            said = f"all traffic goes to {bundle}"
        else:
            said = f"{there or service.bundle()} is in production already; nothing is changed"
        console.out.print(f"{where}/{name}: {said}", highlight=False, soft_wrap=True, markup=False)


@rollout.command()
def status(
    url: Url = None,
    name: Name = DEFAULT_NAME,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the traffic, and the latest rollout."""
    with failing():
        target = _place(url, name, namespace, kubeconfig, context, None, None, home).target
        observed, record = target.read(), target.load()
        show_status(target.name, observed, None if record is None else record.rollout, output)


@rollout.command()
def watch(
    url: Url = None,
    name: Annotated[
        str | None, typer.Option(help="Only this RayService; by default every one of the namespace.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    prometheus: Prometheus = None,
    matchers: Matchers = None,
    home: Home = Path(".marquee"),
    output: OutputOption = Output.TEXT,
) -> None:
    """Drive every rollout of the namespace (with --url: of that server) and look after its traffic, until it
    is stopped. May be killed and started again at any time, and may run twice."""
    _log()
    signal.signal(signal.SIGTERM, _stop)
    shown = Shown(output)
    with failing():
        if url is not None:
            target = LocalTarget(url, home, admin_token(home))
            source = _source(url, prometheus, matchers or "")
            controller = Controller(SingleFleet(target), lambda _: source, shown.said)
        else:
            api, where = cluster(kubeconfig, context, namespace)
            source = _source(None, prometheus, matchers or f'namespace="{where}"')
            bounds = partial(carry_bounds, api, where)
            controller = Controller(NamespaceFleet(api, where, name), lambda _: source, shown.said, [bounds])
        controller.run()


def _place(
    url: str | None,
    name: str,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    prometheus: str | None,
    matchers: str | None,
    home: Path,
) -> Place:
    if url is not None:
        return Place(LocalTarget(url, home, admin_token(home)), _source(url, prometheus, matchers or ""))
    api, where = cluster(kubeconfig, context, namespace)
    target = RayServiceTarget(api, where, name)
    return Place(target, _source(None, prometheus, matchers or f'namespace="{where}"'))


def _source(url: str | None, prometheus: str | None, matchers: str) -> SignalSource | None:
    if prometheus is not None:
        return PrometheusSource(prometheus, matchers)
    return None if url is None else ScrapeSource(url)


def _begin(place: Place, wish: Wish, detach: bool, output: Output) -> None:
    if place.signals is None and not detach:
        text = (
            "nobody to ask how the bundle does: give --prometheus, or --detach to leave it to `rollout watch`"
        )
        console.fail(text, console.EXIT_USAGE)
    good = (Phase.PROMOTED, Phase.PASSED)
    _follow(place, start_rollout(place.target, wish), detach, output, good)


def _follow(place: Place, begun: Rollout, detach: bool, output: Output, good: tuple[Phase, ...]) -> None:
    """Drives it to its end; another controller may do so at the same time."""
    _log()
    shown = Shown(output)
    shown.began(place.target.name, begun)
    if detach:
        return
    with shown, _left_alone():
        ended = Driver(place.target, place.signals, shown.said).drive()
    shown.ended(ended)
    if ended.plan.id != begun.plan.id:
        console.fail(f"another rollout took over: {facts(ended)['message']}")
    if ended.state.phase not in good:
        raise typer.Exit(console.EXIT_BAD)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Ctrl-C ends the command, not the rollout."""
    try:
        yield
    except KeyboardInterrupt:
        text = "nobody drives this rollout now: `marquee rollout watch` goes on, `rollback` takes it back"
        console.fail(text, 130)


def _log() -> None:
    """What goes wrong on the way, on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
