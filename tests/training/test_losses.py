from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses import accidental_hits, listwise_softmax, log_frequency, sampled_softmax

ids = st.integers(0, 6)


def test_sampled_softmax_by_hand() -> None:
    """Two events, two sampled items, q = 1/4 and 3/4: each logit gains -log q before the softmax."""
    logits = torch.tensor([[1.0, 2.0], [0.5, 0.0]])
    log_q = torch.tensor([math.log(1 / 4), math.log(3 / 4)])
    first = math.exp(1) * 4 / (math.exp(1) * 4 + math.exp(2) * 4 / 3)
    second = math.exp(0) * 4 / 3 / (math.exp(0.5) * 4 + math.exp(0) * 4 / 3)
    expected = -(math.log(first) + math.log(second)) / 2
    loss = sampled_softmax(logits, torch.tensor([0, 1]), log_q, torch.zeros(2, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected)


def test_excluded_items_are_no_negatives_but_the_target_always_counts() -> None:
    logits = torch.tensor([[0.3, 5.0, 0.1]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    assert sampled_softmax(logits, torch.tensor([0]), torch.zeros(3), everything).item() == pytest.approx(0)
    only_middle = torch.tensor([[False, True, False]])
    without = sampled_softmax(logits[:, [0, 2]], torch.tensor([0]), torch.zeros(2), everything[:, :2] & False)
    assert sampled_softmax(logits, torch.tensor([0]), torch.zeros(3), only_middle) == without


def test_correction_recovers_the_full_softmax_in_expectation() -> None:
    """Sampling items often and correcting by log q gives the gradient of the softmax over all items."""
    scores = torch.tensor([0.2, -0.4, 1.0], requires_grad=True)
    q = torch.tensor([0.7, 0.2, 0.1])
    drawn = torch.multinomial(q, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    columns = torch.cat([torch.tensor([0]), drawn])
    # The positive is not a draw: as one more logit among 200,000 it must weigh as its q would.
    log_q = q.log()[columns] + math.log(len(drawn))
    log_q[0] = 50.0  # leaves it out of the partition sum
    partition = (scores[columns] - log_q).logsumexp(0)
    (sampled,) = torch.autograd.grad(partition, scores)
    torch.testing.assert_close(sampled, scores.detach().softmax(0), atol=5e-3, rtol=0)


@given(st.lists(st.tuples(st.lists(ids, min_size=3, max_size=3), st.integers(0, 5)), min_size=1, max_size=8))
def test_accidental_hits_are_what_was_taken_or_met(rows: list[tuple[list[int], int]]) -> None:
    """Id 6 is the padding, which is never sampled."""
    history, sampled = torch.tensor([h for h, _ in rows]), torch.tensor([y for _, y in rows])
    expected = [[other in met or other == own for _, other in rows] for met, own in rows]
    assert accidental_hits(history, sampled).tolist() == expected


@given(st.lists(st.integers(0, 4), max_size=30))
def test_log_frequency_is_a_distribution_with_a_place_for_the_unseen(items: list[int]) -> None:
    log_q = log_frequency(torch.tensor(items, dtype=torch.int64), 5)
    assert log_q.exp().sum().item() == pytest.approx(1, rel=1e-5)
    for i in range(5):
        assert math.exp(log_q[i]) == pytest.approx((items.count(i) + 0.5) / (len(items) + 2.5), rel=1e-5)


def test_listwise_softmax_by_hand_without_the_filling() -> None:
    scores = torch.tensor([[1.0, 0.0, 9.0], [0.0, 2.0, 1.0]])
    present = torch.tensor([[True, True, False], [True, True, True]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2) + math.exp(1))) / 2
    assert listwise_softmax(scores, present).item() == pytest.approx(expected)
