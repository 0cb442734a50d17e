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
from urllib.parse import urljoin

import psutil

from loadtests.bench import inputs, load, processes
from loadtests.bench.peers import answers, figures, ray_noop
from loadtests.bench.peers.arms import LITSERVE_TOGETHER, NOOP, Arm, Arms, Running, started
from loadtests.bench.peers.environments import NoEnvironment
from loadtests.bench.peers.figures import MANY, Measured, Pipeline
from loadtests.bench.peers.pipeline import Caller, calling
from loadtests.bench.result import Goal, Section, Table
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.world import World
from serving.local.ports import free_block

RATES = (50.0, 150.0)
"""Requests a second of the open loops: well below what one worker can answer on two cores, and near it."""

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
server: one process with the models and one thread for computing, except where two are said. LitServe's API \
process, Ray's processes, HAProxy and Triton's server come on top and count in CPU and memory; \
Valkey, the same for all, counts in neither but where it is said. Every arm gave the same items, \
scores and reasons for the same requests before it was measured. Requests: the mix of \
`loadtests.traffic`; no cache of answers (the rows of users who ask again, and what the pipeline remembers \
of them, are kept in every arm); budgets so wide that no answer is cut short, \
access logs off. Marquee's replica reads and computes as one what is asked for at the same moment; a \
peer's worker runs the pipeline for every request, as its documentation has it. Two arms show what the \
same gathering does elsewhere: put in by hand behind FastAPI, and fed by LitServe's own batching, at its \
default of no wait. The load generators (wrk, Locust) run on the same cores. Arms are measured in turn, \
while the others are suspended."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Attributes:
    peers: those that answer; the first is the reference. `noop` and `cached` stand aside.
    missing: arm → why it is left out.
    """

    peers: tuple[Arm, ...]
    noop: Arm
    missing: Mapping[str, str]


def run(effort: Effort, world: World) -> Section:
    """Full: every arm, with memory and two workers. Quick: what needs no other environment."""
    if shutil.which("wrk") is None:
        return Section("peers", "Peers", "", skipped="wrk is not installed: apt-get install wrk")
    with inputs.redis(world) as redis_url:
        bodies = inputs.bodies(world, BODIES)
        one = _arms(world, redis_url, 1)
        chosen = choose(one, effort)
        tables, goals = _side_by_side(chosen, one, effort, bodies)
        if not effort.quick:
            two = choose(_arms(world, redis_url, 2), effort)
            for found in (_memory(chosen, bodies), _two_workers(two, effort, bodies)):
                tables += found[0]
                goals += found[1]
    left_out = "".join(f" Left out: {name}: {why}." for name, why in chosen.missing.items())
    return Section("peers", "Peers", TEXT + left_out, tuple(tables), tuple(goals))


def _arms(world: World, redis_url: str, workers: int) -> Arms:
    work = world.work / f"workers-{workers}"
    work.mkdir()
    return Arms(world.bundle, work, redis_url, workers, free_block())


def choose(arms: Arms, effort: Effort) -> Chosen:
    """The arms that this machine and this effort allow."""
    peers, missing = [arms.fused(), arms.fastapi()], {}
    more: dict[str, Callable[[], Arm]] = {"LitServe": arms.litserve}
    if not effort.quick:
        peers.insert(1, arms.distributed())
        peers.append(arms.fastapi_together())
        more |= {
            LITSERVE_TOGETHER: arms.litserve_together,
            "BentoML": partial(arms.bentoml, make=True),
            "Triton": partial(arms.triton, make=True),
        }
    for name, make in more.items():
        try:
            peers.append(make())
        except NoEnvironment as why:
            missing[name] = str(why)
    return Chosen(tuple(peers), arms.noop(), missing)


Found = tuple[list[Table], list[Goal]]


def _side_by_side(chosen: Chosen, arms: Arms, effort: Effort, bodies: Path) -> Found:
    with ExitStack() as stack:
        caller = stack.enter_context(calling(arms.in_process(bodies)))
        running = _started(stack, (*chosen.peers, chosen.noop), bodies)
        turns: dict[str, Callable[[], Measured | Pipeline | load.Load]] = {
            arm.name: partial(_measure, arm, running, effort, bodies) for arm in running
        }
        turns[figures.PIPELINE] = partial(_call, caller, effort)
        turns[figures.NOOP_HOPS] = partial(_hops, running[-1], running, effort, bodies)
        found = in_turn(turns, effort.rounds)
    pipeline = [each for each in found.pop(figures.PIPELINE) if isinstance(each, Pipeline)]
    hops = [each for each in found.pop(figures.NOOP_HOPS) if isinstance(each, load.Load)]
    rounds = {name: [each for each in all_ if isinstance(each, Measured)] for name, all_ in found.items()}
    tables = [figures.closed_table(rounds, pipeline), figures.hops_table(rounds[NOOP], hops)]
    if not effort.quick:
        tables.append(figures.open_table(rounds))
    goals = [*figures.overhead_goals(rounds, pipeline, hops), *figures.throughput_goals(rounds, pipeline)]
    return tables, goals


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
        if arm.name != NOOP:
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
        many, cpu_ms = _with_cpu(arm, bodies, effort)
        paced = {} if effort.quick else {r: load.open(arm.url, bodies, r, effort.seconds) for r in RATES}
    finally:
        arm.suspend()
    return Measured(one, many, paced, cpu_ms)


def _hops(noop: Running, arms: Sequence[Running], effort: Effort, bodies: Path) -> load.Load:
    url = urljoin(noop.url, ray_noop.HOPS)
    _breathe(arms)
    noop.resume()
    try:
        load.closed(url, bodies, 1, WARM_S)
        return load.closed(url, bodies, 1, effort.seconds)
    finally:
        noop.suspend()


def _with_cpu(arm: Running, bodies: Path, effort: Effort) -> tuple[load.Load, float]:
    """The closed loop of many connections, and the arm's CPU milliseconds a request in it."""
    before = processes.cpu_seconds(*arm.roots)
    many = load.closed(arm.url, bodies, MANY, effort.seconds)
    used = processes.cpu_seconds(*arm.roots) - before
    return many, used / (many.requests_per_s * effort.seconds) * 1e3


def _call(caller: Caller, effort: Effort) -> Pipeline:
    return caller.measure(effort.seconds)


def _memory(chosen: Chosen, bodies: Path) -> Found:
    """Each arm alone, so that no page is shared with another arm; Redis counts with the fused service."""
    held = {}
    for arm in (*chosen.peers, chosen.noop):
        log.info("memory of %s", arm.name)
        with started(arm) as running:
            load.closed(running.url, bodies, MANY, WARM_S * 3)
            time.sleep(SETTLED_S)
            held[arm.name] = processes.pss(*running.roots)
    held[chosen.peers[0].name] |= _redis_pss()
    return [figures.memory_table(held)], figures.memory_goals(held)


def _redis_pss() -> dict[str, int]:
    """Of the embedded server, a child of this process."""
    children = psutil.Process().children()
    return processes.pss(*(child.pid for child in children if child.name() == figures.REDIS))


def _two_workers(chosen: Chosen, effort: Effort, bodies: Path) -> Found:
    with ExitStack() as stack:
        running = _started(stack, chosen.peers, bodies)
        found = in_turn(
            {arm.name: partial(_many, arm, running, effort, bodies) for arm in running}, effort.rounds
        )
    return [figures.workers_table(found)], []


def _many(arm: Running, arms: Sequence[Running], effort: Effort, bodies: Path) -> tuple[load.Load, float]:
    _breathe(arms)
    arm.resume()
    try:
        load.closed(arm.url, bodies, MANY, WARM_S)
        return _with_cpu(arm, bodies, effort)
    finally:
        arm.suspend()
