"""Kinds of stages → their classes (`training.registry`).

A class satisfies the protocol of its role (`serving.stages`), and has `build(spec, parts, pipeline)`.
"""

from __future__ import annotations

from training.registry import Registry

STAGES = Registry(
    "marquee.stages",
    {
        "best": "serving.retrieval.sources:ModelSource",
        "nearest": "serving.retrieval.sources:VectorSource",
        "popular": "serving.retrieval.sources:PopularSource",
        "similar_by_behaviour": "serving.retrieval.similar:SimilarByBehaviour",
        "similar_by_content": "serving.retrieval.similar:SimilarByContent",
        "named": "serving.retrieval.named:NamedItems",
        "calibrated": "serving.retrieval.blend:CalibratedBlender",
        "cascade": "serving.retrieval.blend:Cascade",
        "duplicate": "serving.filters:DuplicateFilter",
        "eligible": "serving.filters:EligibleFilter",
        "ranking_features": "serving.columns:RankingHydrator",
        "additive": "serving.ranking.ranker:AdditiveScorer",
        "mmr": "serving.diversity.mmr:MMRSelector",
        "additive_terms": "serving.explain.attribution:RankerExplainer",
    },
)
