"""What a recipe may give the DCN-v2 ranker."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from training.spec import Options


class DcnOptions(Options):
    """Chosen on the validation split of MovieLens-100K."""

    steps: PositiveInt = Field(360, description="of AdamW (Loshchilov & Hutter 2019), one cycle")
    batch: PositiveInt = Field(128, description="lists drawn a step")
    learning_rate: PositiveFloat = Field(3e-3, description="at its peak")
    warmup: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the steps in which the rate rises"
    )
    weight_decay: NonNegativeFloat = Field(0.1, description="on all weights")
    knots: Annotated[int, Field(ge=2)] = Field(16, description="quantiles, bins between them")
    embedding: PositiveInt = Field(4, description="numbers that a feature becomes")
    cross: PositiveInt = Field(2, description="cross layers; each multiplies once more")
    hidden: PositiveInt = Field(64, description="width of the deep network's two layers")
