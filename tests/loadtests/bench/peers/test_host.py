"""A peer's answer is Marquee's: the same engine, the same wire format."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from features.memory_store import MemoryOnlineStore
from loadtests.bench.peers.host import Host, PeerRequest, patient
from serving.build import compose
from serving.http.wire import recommendation_body
from training.bundle import read_bundle
from training.data.tables import Tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hosted(bundle_dir: Path) -> Host:
    config, bundle = patient(str(bundle_dir)), read_bundle(str(bundle_dir))
    tables = Tables.read(bundle_dir.parents[1] / "data")
    store = MemoryOnlineStore.from_events(bundle.schema, tables.interactions, tables.items, tables.users)
    return Host(config, compose(bundle, store, config), store)


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("who", ["known", "unknown", "session"])
async def test_the_response_is_the_one_marquee_writes(hosted: Host, who: str, explain: bool) -> None:
    tables = Tables.read(Path(hosted.config.bundle).parents[1] / "data")
    known = tables.users["user_id"][0].as_py()
    session = {"session": {"events": [{"item_id": hosted.engine.catalogue.ids[3]}]}}
    body = {"known": {"user_id": known}, "unknown": {"user_id": "nobody"}, "session": session}[who]
    request = PeerRequest.model_validate({**body, "explain": explain})
    recommendation = await hosted.engine.recommend.run(hosted.query(request))
    theirs = json.loads(hosted.response(recommendation).model_dump_json())
    ours = json.loads(recommendation_body(recommendation, hosted.engine))
    assert theirs == ours
    assert len(theirs["items"]) == 10


async def test_the_same_fields_decide(hosted: Host) -> None:
    plain = PeerRequest.model_validate({"user_id": "nobody"})
    first = (await hosted.answer(plain)).items[0].id
    without = plain.model_copy(update={"exclude_ids": [first]})
    assert first not in [item.id for item in (await hosted.answer(without)).items]


@pytest.mark.parametrize("wrong", [{}, {"user_id": "1", "cuont": 3}, {"user_id": "1", "count": 0}])
def test_what_marquee_refuses_a_peer_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PeerRequest.model_validate(wrong)


def test_no_arm_keeps_answers_or_cuts_them_short() -> None:
    config = patient("bundle")
    assert config.cache.items == 0
    assert all(budget >= 30_000 for budget in config.budgets.model_dump().values())
