"""Who waits at the same moment is answered together, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.batcher import MicroBatchQueue


class Doubling:
    """Answers twice the number, when it is let; 13 is refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.open.wait()
        return [ValueError("13") if number == 13 else 2 * number for number in numbers]


def queue(answer: Doubling, max_batch: int = 4, max_wait_s: float = 60.0) -> MicroBatchQueue[int, int]:
    return MicroBatchQueue(answer, max_batch, max_wait_s)


async def test_one_alone_goes_at_once() -> None:
    answer = Doubling()
    assert await queue(answer).ask(21) == 42
    assert answer.batches == [[21]]


async def test_of_the_same_moment_all_go_together_and_each_has_its_own_answer() -> None:
    answer = Doubling()
    asked = queue(answer)
    assert await asyncio.gather(*(asked.ask(n) for n in (1, 2, 3))) == [2, 4, 6]
    assert answer.batches == [[1, 2, 3]]


async def test_while_one_computes_others_gather_up_to_a_batch() -> None:
    answer = Doubling()
    asked = queue(answer, max_batch=3)
    answer.open.clear()
    tasks = [asyncio.create_task(asked.ask(0))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(asked.ask(n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    assert answer.batches == [[0]]
    tasks += [asyncio.create_task(asked.ask(3))]
    await asyncio.sleep(0.01)
    assert answer.batches == [[0], [1, 2, 3]], "a full one does not wait"
    answer.open.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6]


async def test_what_gathered_goes_when_the_one_before_is_answered() -> None:
    answer = Doubling()
    asked = queue(answer)
    answer.open.clear()
    tasks = [asyncio.create_task(asked.ask(0))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(asked.ask(n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    answer.open.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]
    assert answer.batches == [[0], [1, 2]]


@pytest.mark.parametrize("hurried", [False, True])
async def test_behind_one_that_hangs_nobody_waits_long(hurried: bool) -> None:
    answer = Doubling()
    asked = queue(answer, max_wait_s=60.0 if hurried else 0.01)
    answer.open.clear()
    first = asyncio.create_task(asked.ask(0))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(asked.ask(1, hurried))
    while len(answer.batches) < 2:  # noqa: ASYNC110  # it is no event of ours
        await asyncio.sleep(0.01)
    answer.open.set()
    assert await asyncio.gather(first, second) == [0, 2]


async def test_one_that_is_refused_or_leaves_costs_the_others_nothing() -> None:
    answer = Doubling()
    asked = queue(answer)
    answer.open.clear()
    first = asyncio.create_task(asked.ask(0))
    await asyncio.sleep(0.01)
    left, refused, kept = (asyncio.create_task(asked.ask(n)) for n in (7, 13, 5))
    await asyncio.sleep(0.01)
    left.cancel()
    await asyncio.sleep(0.01)
    answer.open.set()
    assert await first == 0
    assert await kept == 10
    with pytest.raises(ValueError, match="13"):
        await refused
    assert answer.batches == [[0], [13, 5]]


async def test_a_batch_that_fails_fails_for_all_of_it_and_the_next_goes_on() -> None:
    class Broken(Doubling):
        async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
            if not self.batches:
                self.batches.append(list(numbers))
                raise RuntimeError("a defect")
            return await super().__call__(numbers)

    asked = queue(Broken())
    both = await asyncio.gather(asked.ask(1), asked.ask(2), return_exceptions=True)
    assert [str(error) for error in both] == ["a defect"] * 2
    assert await asked.ask(3) == 6
