"""Fits the DCN-v2 ranker, listwise on what was retrieved (`training.losses.listwise_softmax`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from training.losses import listwise_softmax
from training.models.arrays import Float32
from training.models.dcn.model import DcnRanker
from training.models.dcn.network import Dcn, DcnSettings, bins_of
from training.models.eager import EagerNetwork
from training.models.ranking_lists import RankingLists, quantile_knots


@dataclass(frozen=True, slots=True)
class DcnFit:
    """Attributes:
    steps: of AdamW (Loshchilov & Hutter 2019) under a one-cycle schedule.
    batch: lists drawn a step.
    learning_rate: at its peak. weight_decay: on all weights.
    knots: quantiles that a feature's bins lie between, those of the tail apart.
    """

    steps: int = 360
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    knots: int = 16


def fit_dcn(
    lists: RankingLists, fit: DcnFit | None = None, settings: DcnSettings | None = None, seed: int = 0
) -> DcnRanker:
    """Repeatable: equal lists and seed give an equal network on one machine.

    Raises:
        ValueError: no list, or a feature that is not finite.
    """
    fit, settings, rows = fit or DcnFit(), settings or DcnSettings(), lists.rows()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Dcn(settings, *bins_of([quantile_knots(column, fit.knots) for column in rows.T]))
        _train(network, lists, fit)
    baseline: Float32 = rows.mean(0, dtype=np.float64).astype(np.float32)
    return DcnRanker(lists.names, EagerNetwork(network, network.signature), baseline, asdict(settings))


def _train(network: Dcn, lists: RankingLists, fit: DcnFit) -> None:
    features, present = torch.from_numpy(lists.features), torch.from_numpy(lists.present)
    optimiser = torch.optim.AdamW(network.parameters(), fit.learning_rate, weight_decay=fit.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, fit.learning_rate, total_steps=fit.steps, pct_start=0.1
    )
    for _ in range(fit.steps):
        batch = torch.randint(len(present), (fit.batch,))
        scores = network(features[batch].flatten(0, 1)).view(fit.batch, -1)
        loss = listwise_softmax(scores, present[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        schedule.step()
