"""The same pipeline behind Marquee and behind what a user would pick instead, measured side by side.

Does not belong here: how a server is started (`peers.arms`), arithmetic on the findings (`peers.figures`).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.bench import inputs, load, processes
from loadtests.bench.inputs import World
from loadtests.bench.peers import answers, figures
from loadtests.bench.peers.arms import BENTOML, LITSERVE, Arm, Arms, Running, started
from loadtests.bench.peers.environments import NoEnvironment
from loadtests.bench.peers.figures import MANY, Measured
from loadtests.bench.result import Section, Table
from loadtests.bench.rounds import Effort, in_turn
from serving.local.ports import free_block

BODIES = 2_000
"""Different requests, asked in the same order of every arm."""

WARM_S = 1.0
"""Seconds of load that are not counted, when an arm was resumed."""

SETTLED_S = 5.0
"""Seconds after which what only a start takes is gone: Marquee has a process for it, which ends a moment
after the first answer, and on busy cores later."""

BREATH_S = 1.5
"""Seconds that suspended arms run between two measurements."""

TEXT = """The identical pipeline (bundle, configuration, Feast on the same embedded Valkey) behind each \
server: one process with the models. LitServe's API process, Ray's processes and HAProxy come on top and \
count in CPU and memory; Valkey, the same for all, counts in neither. Every arm gave the same items, scores \
and reasons for the same requests before it was measured. Requests: the mix of `loadtests.traffic`; no cache \
of answers (the rows of users who ask again are kept in every arm); budgets so wide that no answer is cut \
short, access logs off. Marquee computes in one batch what is asked for at the same moment. FastAPI and \
BentoML compute every request alone, as their documentation has it; LitServe forms batches itself, at its \
default of no wait; behind *FastAPI + Marquee's batching* stands Marquee's own micro-batch queue, put in by \
hand. The load generator (wrk, closed loops) runs on the same cores. Arms are measured in turn, while the \
others are suspended."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Attributes:
    arms: the first is the reference.
    missing: arm → why it is left out.
    """

    arms: tuple[Arm, ...]
    missing: Mapping[str, str]


def run(effort: Effort, world: World) -> Section:
    """Full: every arm, and its memory. Quick: what needs no other environment."""
    if shutil.which("wrk") is None:
        return Section("peers", "Peers", "", skipped="wrk is not installed: apt-get install wrk")
    with inputs.redis(world) as redis_url:
        bodies = inputs.bodies(world, BODIES)
        chosen = choose(Arms(world.bundle, world.work, redis_url, free_block()), effort)
        rounds = _side_by_side(chosen.arms, effort, bodies)
        tables = [figures.closed_table(rounds), figures.ratios_table(rounds)]
        if not effort.quick:
            tables.append(_memory(chosen.arms, bodies))
    left_out = "".join(f" Left out: {name}: {why}." for name, why in chosen.missing.items())
    return Section("peers", "Peers", TEXT + left_out, tuple(tables), tuple(figures.goals(rounds)))


def choose(arms: Arms, effort: Effort) -> Chosen:
    """The arms that this machine and this effort allow."""
    chosen, missing = [arms.fused(), arms.fastapi(), arms.fastapi_batched()], {}
    more: dict[str, Callable[[], Arm]] = {LITSERVE: arms.litserve}
    if not effort.quick:
        chosen.insert(1, arms.apart())
        more[BENTOML] = arms.bentoml
    for name, make in more.items():
        try:
            chosen.append(make())
        except NoEnvironment as why:
            missing[name] = str(why)
    return Chosen(tuple(chosen), missing)


def _side_by_side(arms: Sequence[Arm], effort: Effort, bodies: Path) -> dict[str, list[Measured]]:
    with ExitStack() as stack:
        running = _started(stack, arms, bodies)
        turns = {arm.name: partial(_measure, arm, running, effort, bodies) for arm in running}
        return in_turn(turns, effort.rounds)


def _started(stack: ExitStack, arms: Sequence[Arm], bodies: Path) -> list[Running]:
    """All arms, suspended, each of which has given the answers of the first.

    Raises:
        answers.Differs: one gave others.
    """
    running: list[Running] = []
    reference = None
    for arm in arms:
        log.info("starting %s", arm.name)
        one = stack.enter_context(started(arm))
        given = answers.answers(one.url, bodies)
        reference = given if reference is None else reference
        answers.check(arm.name, given, reference)
        one.suspend()
        running.append(one)
        _breathe(running)
    return running


def _breathe(arms: Sequence[Running]) -> None:
    """Lets suspended arms run for a moment: some of Ray's watchdogs, not all of which can be told to wait,
    end it when it has stood still for more than a minute."""
    for arm in arms:
        arm.resume()
    time.sleep(BREATH_S)
    for arm in arms:
        arm.suspend()


def _measure(arm: Running, arms: Sequence[Running], effort: Effort, bodies: Path) -> Measured:
    _breathe(arms)
    arm.resume()
    try:
        load.closed(arm.url, bodies, MANY, WARM_S)
        one = load.closed(arm.url, bodies, 1, effort.seconds)
        before = processes.cpu_seconds(arm.pid)
        many = load.closed(arm.url, bodies, MANY, effort.seconds)
        used = processes.cpu_seconds(arm.pid) - before
    finally:
        arm.suspend()
    return Measured(one, many, used / (many.requests_per_s * effort.seconds) * 1e3)


def _memory(arms: Sequence[Arm], bodies: Path) -> Table:
    """Each arm alone, so that no page is shared with another arm."""
    held = {}
    for arm in arms:
        log.info("memory of %s", arm.name)
        with started(arm) as running:
            load.closed(running.url, bodies, MANY, WARM_S * 3)
            time.sleep(SETTLED_S)
            held[arm.name] = processes.pss(running.pid)
    return figures.memory_table(held)
