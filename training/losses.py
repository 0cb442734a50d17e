"""Training losses, and what goes into them. Pure functions of tensors; models and loops live elsewhere."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

_NEVER = -1e9
"""Stands for minus infinity: a softmax over nothing else stays finite."""


def sampled_softmax(logits: Tensor, target: Tensor, log_q: Tensor, excluded: Tensor) -> Tensor:
    """Mean cross-entropy over sampled items, each logit less the log of how often its item is sampled.

    Without the correction a popular item, being a negative often, is learned to be worse than it is.
    Bengio & Senécal, "Adaptive importance sampling to accelerate training of a neural probabilistic
    language model", 2008; in-batch: Yi et al., "Sampling-bias-corrected neural modeling for large corpus
    item recommendations", RecSys 2019.

    Args:
        logits: float32 [b, m], of each event against the m sampled items.
        target: int64 [b], the column of each event's own item.
        log_q: float32 [m], log of the probability that a draw brings the item in that column.
        excluded: bool [b, m], columns that are no negatives of that event (see `accidental_hits`); the
            target's own column counts in any case.
    """
    columns = torch.arange(logits.shape[1], device=logits.device)
    out = excluded & (columns != target[:, None])
    return F.cross_entropy((logits - log_q).masked_fill(out, _NEVER), target)


def accidental_hits(history: Tensor, sampled: Tensor) -> Tensor:
    """bool [b, b]: where the item sampled for column j is one that event i took or had met before.

    Args:
        history: int64 [b, l], padded with any id that is never sampled.
        sampled: int64 [b], the batch's own items: row i took item i.
    """
    items, column = torch.unique(sampled, return_inverse=True)
    known = torch.cat([history, sampled[:, None]], dim=1)
    place = torch.searchsorted(items, known).clamp_(max=len(items) - 1)
    place = torch.where(items[place] == known, place, len(items))  # a spare column takes the misses
    met = torch.zeros(len(sampled), len(items) + 1, dtype=torch.bool, device=sampled.device)
    return met.scatter_(1, place, True)[:, column]


def log_frequency(item_index: Tensor, n_items: int, smoothing: float = 0.5) -> Tensor:
    """float32 [n]: log of each item's share of the events [e], the `log_q` of in-batch sampling.

    `smoothing` (events) is added to every count, so that an item never met has a finite one.
    """
    count = torch.bincount(item_index, minlength=n_items) + smoothing
    return (count / count.sum()).log()


def listwise_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Mean cross-entropy of column 0, the item taken, against the other candidates of the same event.

    The top-one likelihood of Plackett-Luce: Cao et al., "Learning to rank: from pairwise approach to
    listwise approach", ICML 2007.

    Args:
        scores: float32 [b, c].
        present: bool [b, c], False where a short list is filled up.
    """
    taken = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    return F.cross_entropy(scores.masked_fill(~present, _NEVER), taken)
