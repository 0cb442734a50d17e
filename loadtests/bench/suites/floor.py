"""What of a request is Ray Serve's and the pipeline's own, whatever interface stands between the two.

Does not belong here: other servers, and many requests at once (`peers`).
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from loadtests.bench import inputs, load
from loadtests.bench.load import Load
from loadtests.bench.peers import floor_figures
from loadtests.bench.peers.arms import Arms, Running, started
from loadtests.bench.peers.calls import Calls
from loadtests.bench.peers.figures import PIPELINE
from loadtests.bench.peers.pipeline import calling
from loadtests.bench.result import Section
from loadtests.bench.rounds import Effort, in_turn
from loadtests.bench.suites.peers import BODIES, WARM_S
from loadtests.bench.world import World
from serving.local.ports import free_block

TITLE = "Floor: one request, without an interface"

TEXT = """\
One connection. The bare application has the settings, the server and the pipeline of Marquee's fused replica,
and one route that runs the pipeline on a query made beforehand and answers with a constant: no request is
validated, no answer written, nothing limited, counted or named. What it takes beyond the pipeline in process
is therefore Ray Serve's, and the pipeline's own between two requests, when caches are cold. Arms are measured
in turn, while the others are suspended.
"""


def run(effort: Effort, world: World) -> Section:
    """The quick form measures it, too, if shortly."""
    if shutil.which("wrk") is None:
        return Section("floor", TITLE, "", skipped="wrk is not installed: apt-get install wrk")
    with inputs.redis(world) as redis_url, ExitStack() as stack:
        bodies = inputs.bodies(world, BODIES)
        arms = Arms(world.bundle, world.work, redis_url, 1, free_block())
        caller = stack.enter_context(calling(arms.in_process(bodies)))
        turns = {PIPELINE: lambda: caller.p50_ms(Calls(effort.seconds))}
        for arm in (arms.fused(), arms.bare(bodies), arms.noop()):
            running = stack.enter_context(started(arm))
            running.suspend()
            turns[arm.name] = partial(_p50_ms, running, bodies, effort)
        found = in_turn(turns, effort.rounds)
    return Section("floor", TITLE, TEXT, (floor_figures.table(found),), (floor_figures.goal(found),))


def _p50_ms(arm: Running, bodies: Path, effort: Effort) -> float:
    arm.resume()
    try:
        load.closed(arm.url, bodies, 1, WARM_S)
        found: Load = load.closed(arm.url, bodies, 1, effort.seconds)
    finally:
        arm.suspend()
    return found.p50_ms
