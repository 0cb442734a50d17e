"""A rollout on the screen: for people lines and tables, for scripts one JSON document a line.

Does not belong here: deciding anything.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.status import Status
from rich.table import Table

from k8s.console import Output, err, out, print_json
from k8s.plan import Phase, Rollout
from k8s.rollout import QUIET, Decision, describe, version_of
from k8s.target import Observed
from serving.config import Traffic

_COLOURS = {True: "green", False: "red"}


class Shown:
    """Decisions as they fall; between them one line that says what is waited for."""

    def __init__(self, output: Output) -> None:
        self._json = output is Output.JSON
        self._waiting: Status | None = None

    def __enter__(self) -> Shown:
        if not self._json:
            self._waiting = err.status("starting")
            self._waiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def began(self, target: str, rollout: Rollout) -> None:
        if self._json:
            print_json({"target": target, **facts(rollout)})
        else:
            out.print(f"{escape(target)}: {escape(rollout.state.message)}", highlight=False, soft_wrap=True)

    def said(self, rollout: Rollout, decision: Decision) -> None:
        if decision.action in QUIET:
            if self._waiting is not None:
                self._waiting.update(escape(decision.message))
        elif self._json:
            print_json({"action": decision.action, **facts(rollout)})
        else:
            now = datetime.now().strftime("%H:%M:%S")
            out.print(
                f"{now} {decision.action:<9} {escape(decision.message)}", highlight=False, soft_wrap=True
            )

    def ended(self, rollout: Rollout) -> None:
        if not self._json:
            colour = _COLOURS[rollout.state.phase.good]
            out.print(f"[{colour}]{rollout.state.phase}[/] {escape(rollout.plan.candidate_version)}")


def facts(rollout: Rollout) -> dict[str, Any]:
    """A rollout for scripts."""
    plan, state = rollout.plan, rollout.state
    return {
        "rollout": plan.id,
        "kind": plan.kind,
        "phase": state.phase,
        "candidate": plan.candidate,
        "candidate_version": plan.candidate_version,
        "production": plan.production,
        "production_version": plan.production_version,
        "step": state.step + 1,
        "steps": [{"weight": step.weight, "seconds": step.seconds} for step in plan.steps],
        "since": state.since,
        "decision": state.decision,
        "decided": state.decided,
        "message": state.message,
        "waiting": state.waiting,
    }


def show_status(target: str, observed: Observed, rollout: Rollout | None, output: Output) -> None:
    traffic = observed.traffic
    if output is Output.JSON:
        print_json(
            {
                "target": target,
                "traffic": None if traffic is None else traffic.wire(),
                "versions": dict(observed.versions),
                "refused": dict(observed.refused),
                "behind": dict(observed.behind),
                "problem": observed.problem,
                "rollout": rollout and facts(rollout),
            }
        )
        return
    if traffic is None:
        out.print(f"[red]{escape(observed.problem)}[/]", soft_wrap=True)
    else:
        out.print(_traffic(target, traffic, observed))
    for who, what in observed.behind.items():
        out.print(f"[yellow]behind: {escape(who)} {escape(what)}[/]", soft_wrap=True, highlight=False)
    if rollout is None:
        out.print("No rollout yet.")
    else:
        out.print(_rollout(rollout))


def _traffic(target: str, traffic: Traffic, observed: Observed) -> Table:
    table = Table(title=f"Traffic of {escape(target)}", title_justify="left")
    for column in ("bundle", "role", "share", ""):
        table.add_column(column, justify="right" if column == "share" else "left", overflow="fold")
    for position, entry in enumerate(traffic.traffic):
        role = "shadow" if entry.shadow else "canary" if position else "production"
        version = observed.versions.get(entry.bundle) or version_of(entry.bundle)
        share = "" if entry.shadow else f"{entry.weight}%"
        refused = observed.refused.get(entry.bundle, "")
        table.add_row(escape(version), role, share, f"[red]refused: {escape(refused)}[/]" if refused else "")
    return table


def _rollout(rollout: Rollout) -> Table:
    plan, state = rollout.plan, rollout.state
    table = Table(title=f"Rollout {plan.id}", title_justify="left", show_header=False)
    table.add_row(
        "phase", f"[{_COLOURS[state.phase.good]}]{state.phase}[/]" if state.phase.over else state.phase
    )
    table.add_row(plan.kind, f"{escape(plan.production_version)} → {escape(plan.candidate_version)}")
    if plan.steps and state.phase is Phase.PROGRESSING:
        table.add_row(
            "step",
            f"{state.step + 1} of {len(plan.steps)}: {escape(describe(plan.at(state.step), plan.versions))}",
        )
    table.add_row("latest", escape(state.message))
    if state.waiting:
        table.add_row("waits", escape(state.waiting))
    return table
