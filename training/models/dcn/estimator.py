"""Fits the DCN-v2 ranker, listwise on what was retrieved (`training.losses.listwise_softmax`)."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from training.losses import listwise_softmax
from training.models.arrays import Float32
from training.models.dcn.model import DcnRanker
from training.models.dcn.network import DcnNetwork, DcnSettings, bins_of
from training.models.dcn.options import DcnOptions
from training.models.eager import EagerNetwork
from training.models.ranking_lists import RankingLists, quantile_knots
from training.schedule import one_cycle


def fit_dcn(lists: RankingLists, options: DcnOptions, seed: int = 0) -> DcnRanker:
    """Repeatable: equal lists and seed give an equal network on one machine.

    Raises:
        ValueError: no list, or a feature that is not finite.
    """
    rows = lists.rows()
    knots = [quantile_knots(column, options.knots) for column in rows.T]
    settings = DcnSettings(options.embedding, options.cross, options.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DcnNetwork(settings, *bins_of(knots))
        _train(network, lists, options)
    baseline: Float32 = rows.mean(0, dtype=np.float64).astype(np.float32)
    return DcnRanker(lists.names, EagerNetwork(network, network.signature), baseline, knots, asdict(settings))


def _train(network: DcnNetwork, lists: RankingLists, options: DcnOptions) -> None:
    features, present = torch.from_numpy(lists.features), torch.from_numpy(lists.present)
    optimiser = torch.optim.AdamW(
        network.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: one_cycle(step / options.steps, options.warmup)
    )
    for _ in range(options.steps):
        batch = torch.randint(len(present), (options.batch,))
        scores = network(features[batch].flatten(0, 1)).view(options.batch, -1)
        loss = listwise_softmax(scores, present[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        schedule.step()
