"""The declaration of the bundle that `marquee train` makes: its components, and the pipelines over them."""

from __future__ import annotations

from training.models.ranking_features import NAMES
from training.recipe import Recipe
from training.spec import ComponentSpec, Declaration, PipelineSpec, StageSpec

BASE = {"two_tower": "two_tower", "ease": "ease", "sequential": "sequential", "statistics": "statistics"}
"""What stages that read the base models call them → the components."""

POOL = 100
"""Best-ranked items that diversity may pick from."""

SIMILAR = 100
"""Similar items looked up, by behaviour and by content."""

CHECKED = (
    StageSpec(name="duplicate", role="filter", kind="duplicate"),
    StageSpec(name="eligible", role="filter", kind="eligible"),
)


def declaration(recipe: Recipe) -> Declaration:
    """Of a bundle made with this recipe."""
    return Declaration(
        components={
            "two_tower": ComponentSpec(kind="two_tower"),
            "ease": ComponentSpec(kind="linear"),
            "sequential": ComponentSpec(kind="linear"),
            "statistics": ComponentSpec(kind="item_statistics"),
            "blend": ComponentSpec(kind="calibrated_blend"),
            "ranker": ComponentSpec(kind="additive"),
        },
        pipelines={"recommend": _recommend(recipe), "similar": _similar(), "rank": _rank()},
    )


def _recommend(recipe: Recipe) -> PipelineSpec:
    sizes = recipe.sizes
    return PipelineSpec(
        stages=(
            StageSpec(
                name="two_tower",
                role="source",
                kind="nearest",
                models=BASE,
                options={"limit": sizes["two_tower"]},
            ),
            *(
                StageSpec(
                    name=name,
                    role="source",
                    kind="best",
                    models=BASE,
                    options={"by": name, "limit": sizes[name]},
                )
                for name in ("ease", "sequential")
            ),
            StageSpec(
                name="popular",
                role="source",
                kind="popular",
                models={"statistics": "statistics"},
                options={"limit": sizes["popular"]},
            ),
            StageSpec(
                name="calibrated",
                role="blender",
                kind="calibrated",
                models={"blend": "blend"},
                options={"limit": recipe.candidates},
            ),
            *CHECKED,
            *_ranked(),
            StageSpec(
                name="mmr",
                role="selector",
                kind="mmr",
                models={"vectors": "two_tower"},
                options={"pool": POOL},
            ),
            _explained(),
        )
    )


def _similar() -> PipelineSpec:
    return PipelineSpec(
        stages=(
            StageSpec(
                name="behaviour",
                role="source",
                kind="similar_by_behaviour",
                models={"linear": "ease"},
                options={"limit": SIMILAR},
            ),
            StageSpec(name="content", role="source", kind="similar_by_content", options={"limit": SIMILAR}),
            StageSpec(name="cascade", role="blender", kind="cascade"),
            *CHECKED,
        ),
        user=False,
        hidden="named",
    )


def _rank() -> PipelineSpec:
    return PipelineSpec(
        stages=(
            StageSpec(name="named", role="source", kind="named", models={"statistics": "statistics"}),
            StageSpec(name="cascade", role="blender", kind="cascade"),
            *_ranked(),
            _explained(),
        ),
        hidden="nothing",
    )


def _ranked() -> tuple[StageSpec, StageSpec]:
    return (
        StageSpec(name="ranking_features", role="hydrator", kind="ranking_features", models=BASE),
        StageSpec(name="ranker", role="scorer", kind="additive", models={"ranker": "ranker"}, requires=NAMES),
    )


def _explained() -> StageSpec:
    return StageSpec(
        name="additive_terms",
        role="explainer",
        kind="additive_terms",
        models={**BASE, "ranker": "ranker"},
        options={"contributions": 3},
    )
