from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.models.worlds import (
    LENGTHS,
    N_ITEMS,
    USER_WIDTH,
    alone,
    floats,
    history,
    network,
    one,
    predictable,
    ragged,
    sequences,
)
from training.bundle import Component
from training.losses import accidental_hits, log_frequency, sampled_softmax
from training.models import histories
from training.models.arrays import Float32
from training.models.eager import EagerNetwork
from training.models.ragged import Items
from training.models.two_tower import estimator
from training.models.two_tower.model import TwoTowerScorer
from training.models.two_tower.network import TwoTower, TwoTowerSettings, expand, load

seeds = st.integers(0, 10_000)


def logits(scorer: TwoTowerScorer, histories: Items, features: Float32) -> Float32:
    """float32 [b, n]."""
    found: Float32 = scorer.scale * scorer.user_vectors(histories, features) @ scorer.item_vectors.T
    return found


@given(seeds, LENGTHS)
def test_the_scorer_equals_the_network(seed: int, lengths: list[int]) -> None:
    """A served batch against a padded one in training; a history may be empty, or longer than is read."""
    rng = np.random.default_rng(seed)
    model = network(rng)
    scorer, pasts, features = (
        estimator.scorer(model),
        ragged(rng, lengths),
        floats(rng, len(lengths), USER_WIDTH),
    )
    rectangle = torch.from_numpy(pasts.padded(model.settings.history, N_ITEMS).astype(np.int64))
    target = torch.from_numpy(rng.integers(0, N_ITEMS, len(lengths)))
    with torch.no_grad():
        expected = model.users(rectangle, torch.from_numpy(features), model.items())
        of_targets = model(rectangle, torch.from_numpy(features), target)
    found = scorer.user_vectors(pasts, features)
    assert found.dtype == scorer.item_vectors.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)
    scores = logits(scorer, pasts, features)[:, target.numpy()]
    np.testing.assert_allclose(scores, of_targets.numpy(), rtol=1e-3, atol=1e-4)


@given(seeds, LENGTHS)
def test_a_batch_equals_its_singles(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    scorer, pasts, features = (
        estimator.scorer(network(rng)),
        ragged(rng, lengths),
        floats(rng, len(lengths), USER_WIDTH),
    )
    batch = scorer.user_vectors(pasts, features)
    for row in range(len(lengths)):
        single = scorer.user_vectors(alone(pasts, row), features[row : row + 1])
        np.testing.assert_allclose(batch[row : row + 1], single, atol=1e-5)


@given(seeds, LENGTHS)
def test_vectors_are_of_unit_length(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    scorer, pasts = estimator.scorer(network(rng)), ragged(rng, lengths)
    for vectors in (scorer.item_vectors, scorer.user_vectors(pasts, floats(rng, len(lengths), USER_WIDTH))):
        np.testing.assert_allclose(np.square(vectors).sum(1), np.ones(len(vectors)), rtol=1e-5)


@pytest.mark.parametrize("far", [-300.0, 300.0])
def test_a_place_without_an_event_weighs_nothing_however_the_network_likes_it(far: float) -> None:
    """A short history beside a long one: what the attention and recency make of the places that only the long
    one fills must not matter, nor overflow."""
    rng = np.random.default_rng(6)
    model, pasts, features = network(rng), ragged(rng, [1, 6, 0]), floats(rng, 3, USER_WIDTH)
    with torch.no_grad():
        model.user.recency[3:] += far
        model.user.key_position[3:] *= far
    scorer = estimator.scorer(model)
    batch = scorer.user_vectors(pasts, features)
    for row in (0, 2):
        single = scorer.user_vectors(alone(pasts, row), features[row : row + 1])
        np.testing.assert_allclose(batch[row : row + 1], single, atol=1e-5)


@given(seeds, LENGTHS, st.integers(0, 4))
def test_columns_beyond_a_history_are_not_read(seed: int, lengths: list[int], columns: int) -> None:
    rng = np.random.default_rng(seed)
    tower, b = network(rng).user, len(lengths)
    events, features = floats(rng, b, 6, tower.settings.dimension), floats(rng, b, USER_WIDTH)
    given = {"length": np.minimum(lengths, 2).astype(np.int64), "user_features": features}
    call = EagerNetwork(tower, tower.signature)
    tight, loose = (call({"events": events[:, :end], **given})["user_vectors"] for end in (2, 2 + columns))
    np.testing.assert_allclose(tight, loose, atol=2e-6)


def test_forward_holds_the_items_taken_on_its_diagonal_and_padding_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    model = network(rng)
    rectangle = torch.tensor([[4, 5, N_ITEMS], [7, N_ITEMS, N_ITEMS]])
    features, target = torch.from_numpy(floats(rng, 2, USER_WIDTH)), torch.tensor([1, 2])
    with torch.no_grad():
        logits = model(rectangle, features, target)
        vectors = torch.nn.functional.normalize(model.items(), dim=-1)
        alone = model.users(rectangle[1:, :1], features[1:], model.items())
    assert logits.shape == (2, 2)
    torch.testing.assert_close(logits[1], model.log_scale.exp() * (alone @ vectors[target].T)[0])


def test_training_may_drop_any_event_but_the_newest() -> None:
    rng = np.random.default_rng(1)
    model = network(rng)
    settings = TwoTowerSettings(dimension=8, feature_dimension=4, history=6, dropout=0.0, history_dropout=1.0)
    dropping = TwoTower(settings, floats(rng, N_ITEMS, 3), USER_WIDTH)
    dropping.load_state_dict(model.state_dict())
    features, items = torch.zeros(1, USER_WIDTH), model.items()
    only_newest = model.users(torch.tensor([[3]]), features, items)
    torch.testing.assert_close(
        dropping.train().users(torch.tensor([[3, 8, 9]]), features, items), only_newest
    )


def trained(seed: int, steps: int = 100) -> tuple[TwoTower, list[float]]:
    """On a world where item i is always followed by i + 1."""
    rng = np.random.default_rng(0)
    items = ((rng.integers(0, N_ITEMS, 64)[:, None] + np.arange(5)) % N_ITEMS).astype(np.int32).ravel()
    offsets = np.arange(0, len(items) + 1, 5)
    events = predictable(offsets)
    rectangle = torch.from_numpy(histories.padded(offsets, items, events, 6, N_ITEMS))
    target = torch.from_numpy(items[events].astype(np.int64))
    torch.manual_seed(seed)
    settings = TwoTowerSettings(dimension=16, feature_dimension=4, history=6)
    model = TwoTower(settings, floats(rng, N_ITEMS, 3), USER_WIDTH)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    log_q, losses = log_frequency(target, N_ITEMS), []
    for _ in range(steps):
        rows = torch.randint(len(target), (64,))
        logits = model(rectangle[rows], torch.zeros(64, USER_WIDTH), target[rows])
        excluded = accidental_hits(rectangle[rows], target[rows])
        loss = sampled_softmax(logits, torch.arange(64), log_q[target[rows]], excluded)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        losses.append(loss.item())
    return model.eval(), losses


def test_learns_what_follows_what_and_equal_seeds_give_equal_weights() -> None:
    model, losses = trained(seed=5)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    scorer = estimator.scorer(model)
    for item in range(N_ITEMS):
        past = (item + np.arange(4)) % N_ITEMS
        scores = logits(scorer, one(*past), np.zeros((1, USER_WIDTH), np.float32))[0]
        scores[past] = -np.inf
        assert scores.argmax() == (item + 4) % N_ITEMS
    again, _ = trained(seed=5)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_every_parameter_gets_a_gradient() -> None:
    """As DistributedDataParallel expects of one forward()."""
    rng = np.random.default_rng(2)
    model = network(rng).train()
    offsets, items = sequences(rng)
    events = predictable(offsets)
    rectangle = torch.from_numpy(histories.padded(offsets, items, events, 6, N_ITEMS))
    features = torch.from_numpy(floats(rng, len(events), USER_WIDTH))
    model(rectangle, features, torch.from_numpy(items[events].astype(np.int64))).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_scorer_is_a_copy_and_equal_after_a_round_trip() -> None:
    rng = np.random.default_rng(3)
    model, past, features = network(rng), one(*history(rng, 5)), floats(rng, 1, USER_WIDTH)
    scorer = estimator.scorer(model)
    before = logits(scorer, past, features)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(logits(scorer, past, features), before)
    component = scorer.to_component()
    assert component.onnx == scorer.to_component().onnx  # a bundle's version is a hash of it
    tower = load(component)
    again = TwoTowerScorer.from_component(component, EagerNetwork(tower, tower.signature))
    np.testing.assert_array_equal(logits(again, past, features), before)


def test_a_network_of_another_signature_is_refused() -> None:
    scorer = estimator.scorer(network(np.random.default_rng(3)))
    settings = {"scale": 1.0, "tower": {}, "network": {"inputs": [], "outputs": [], "sizes": {}}}
    with pytest.raises(ValueError, match="signature"):
        TwoTowerScorer.from_component(Component(settings, {}), scorer.network)


def test_expand_keeps_few_valued_columns_and_cuts_the_others_by_rank() -> None:
    flag, year = np.array([0.0, 1, 0, 1, 1, 0]), np.array([1930.0, 1990, 1991, 1992, 1993, 1994])
    wide = expand(np.stack([flag, year], 1).astype(np.float32), buckets=3)
    np.testing.assert_array_equal(wide[:, 0], flag)
    np.testing.assert_array_equal(wide[:, 1:], np.repeat(np.eye(3), 2, axis=0))


@given(seeds, st.integers(2, 6))
def test_expand_puts_every_item_into_one_bucket(seed: int, buckets: int) -> None:
    column = np.random.default_rng(seed).integers(0, 20, (30, 1)).astype(np.float32)
    wide = expand(column, buckets)
    assert wide.shape[1] <= buckets
    np.testing.assert_array_equal(wide.sum(1), 1)
    assert (np.diff(wide.argmax(1)[np.argsort(column[:, 0], kind="stable")]) >= 0).all()


def test_a_network_of_another_width_is_refused() -> None:
    model = network(np.random.default_rng(4))
    with pytest.raises(RuntimeError):
        model(torch.tensor([[1]]), torch.zeros(1, USER_WIDTH + 1), torch.tensor([0]))
