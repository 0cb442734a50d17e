import time

import numpy as np

from loadtests.bench.shapes import shaped
from serving.build import compose
from serving.config import ServeConfig
from serving.types import Diversity, Query


async def test_a_shaped_bundle_answers_whole() -> None:
    world = shaped(100, 170)
    config = ServeConfig(bundle="shaped")
    engine = compose(world.bundle, world.store(), config)
    query = Query(
        "r", world.user_ids[0], time.time(), time.monotonic() + 60, 10, diversity=Diversity("mmr", 0.3)
    )
    answer = await engine.recommend.run(query)
    assert answer.degraded == ()
    assert answer.tier == "personalized"
    assert len(np.unique(answer.shown.item_index)) == 10
    assert len(engine.catalogue) == 170
    assert len(world.user_ids) == 100
