"""Every number a training run is made with, each stated once. Standard library only (`training.inputs`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recipe:
    """Chosen on the validation split of MovieLens-100K.

    Attributes:
        seed: of everything random.
        seen: what happens to items that a user has met: "exclude", "allow", or "auto", by how many events
            repeat (`training.evidence`).
        disliked: events of this value or a lower one are dislikes: a number, "none", or "auto", those at zero
            or below where others are above.
        workers: data-parallel processes. Each draws its own share of a batch, with its own in-batch
            negatives, so their number is part of the result.
        gpu: whether each process computes on a GPU of its own. It rounds otherwise than a CPU does.
        hold: newest training events of each user, at most, that the base models of the first stage do not
            see; fewer where histories are short (`dataset.held_back`). They become the ranker's lists: scores
            of events a model was fitted on would be too good.
        epochs: passes over the training events for a two-tower. Five or seven are within the noise of four.
        batch: examples of one step, over all workers together.
        learning_rate, weight_decay: AdamW's; high decay is what keeps item embeddings from overfitting.
        warmup: share of the steps in which the learning rate rises; it falls along a cosine afterwards.
        ease_half_life, sequential_half_life: events after which an event of a history counts half.
        sizes: source → items it retrieves at most. quotas: source → its best that are always kept.
        candidates: items that a blend keeps, quotas permitting; above what `sizes` add up to, all.
        list_size: candidates of a ranker's training list, the item taken among them.
        lists: ranker lists at most, drawn at random beyond. Its few hundred weights need no more.
    """

    seed: int = 0
    seen: str = "auto"
    disliked: str = "auto"
    workers: int = 2
    gpu: bool = False
    hold: int = 8
    epochs: int = 4
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.5
    warmup: float = 0.1
    ease_half_life: float = 6.0
    sequential_half_life: float = 4.0
    sizes: Mapping[str, int] = field(
        default_factory=lambda: {"two_tower": 200, "ease": 150, "sequential": 50, "popular": 50}
    )
    quotas: Mapping[str, int] = field(
        default_factory=lambda: {"two_tower": 20, "ease": 20, "sequential": 20, "popular": 20}
    )
    candidates: int = 500
    list_size: int = 100
    lists: int = 20_000
