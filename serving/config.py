"""The whole configuration of an application: one frozen model, each tunable stated once with its default,
unit and reason. Secrets and addresses come from the environment instead (`serving.settings`)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serving.runtime_options import RuntimeName, RuntimeOptions

MAX_BUNDLES = 8
"""Bundles in traffic at a time. Each keeps its models in the memory of every replica: production, a canary
and a shadow are three, more is an experiment, and many more a mistake."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DiversityConfig(_Model):
    method: Literal["none", "mmr"] = "mmr"
    strength: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="1 - lambda of MMR; lambda = 0.7 is the usual middle (Carbonell & Goldstein 1998)"
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_moved(cls, given: Any) -> Any:
        if isinstance(given, dict) and "pool" in given:
            raise PydanticCustomError(
                "moved", "`pool` is part of the bundle now: it is the recipe's (`marquee train --recipe`)"
            )
        return given


class CacheConfig(_Model):
    """What each ingress replica keeps. Answers, by everything they depend on: the request, the bundle, and
    the version of the user's row, so that an event of the user makes them unreachable. And users' rows, each
    until Redis says that it was written."""

    items: NonNegativeInt = Field(
        100_000,
        description="items in all answers kept, least recently used first out, 0 to keep none; about 0.6 kB "
        "each, so 60 MB when full",
    )
    ttl_s: PositiveFloat = Field(
        300, description="s; an answer depends on the moment by whole days only, so minutes are not seen"
    )
    rows: NonNegativeInt = Field(
        4_096,
        description="users whose online rows are kept, least recently used first out, 0 to keep none; about "
        "6 kB each, so 24 MB when full. Redis 6 or Valkey tells of what is written",
    )


class Budgets(_Model):
    """How long each stage may take (ms) before the failure policy answers without it. Each is several
    times the stage's usual p99, so that it cuts off faults and not noise."""

    request: PositiveFloat = Field(500, description="when the request names no timeout_ms")
    request_max: PositiveFloat = Field(5_000, description="a longer timeout_ms is refused")
    features: PositiveFloat = 50
    source: PositiveFloat = 200
    ranker: PositiveFloat = 200
    diversity: PositiveFloat = 50
    explainer: PositiveFloat = 100


class BatchingConfig(_Model):
    """How an ingress replica makes batches of the requests it holds; groups compute them as they come."""

    max_batch: PositiveInt = Field(32, description="requests of a batch at most; 32 take about 20 ms")
    max_wait_ms: PositiveFloat = Field(
        25, description="ms that a request waits for others at most, while another batch is computed"
    )


class LimitsConfig(_Model):
    body_bytes: PositiveInt = Field(1_048_576, description="a larger request body is refused with 413")
    in_flight: PositiveInt = Field(
        64,
        description="requests a replica answers at a time; more get 503 as a problem document. At 3 ms each "
        "the last waits 0.2 s. Below the ingress's max_ongoing_requests, whose refusals are plain text",
    )
    rank_items: PositiveInt = Field(1_000, description="items one /v1/rank call may name")
    exclude_ids: PositiveInt = Field(1_000, description="ids one request may exclude")
    session_events: PositiveInt = Field(200, description="events one request's session may hold")


class LogsConfig(_Model):
    """A replica's own lines. Warnings and errors are always written."""

    format: Literal["text", "json"] = Field("text", description="json, one object a line, to be collected")
    access: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of the requests that get a line, chosen by request id; those that the server "
        "failed (5xx) always do. 0 by default: what a line says of every request is in the metrics",
    )


Stage = Literal["retrieval", "ranking", "diversity", "explain"]
"""What a group may run, in the order in which the pipeline does."""

_STAGES: tuple[Stage, ...] = get_args(Stage)


class Autoscaling(_Model):
    """Ray Serve's autoscaling of one deployment; fields and meaning are Ray's, defaults ours."""

    min_replicas: PositiveInt = Field(1, description="0 is unreliable in Ray since 2.51")
    max_replicas: PositiveInt = 1
    target_ongoing_requests: PositiveFloat = Field(
        2,
        description="in a replica at a time, on average: one is computed while another waits. In a group, "
        "calls, each of which carries up to `batching.max_batch` requests: 64 that an ingress "
        "holds are 2 calls, so a higher aim would be met by a group that cannot follow",
    )
    upscale_delay_s: NonNegativeFloat = Field(5, description="s; Ray's 30 s is too late for a spike")
    downscale_delay_s: NonNegativeFloat = Field(120, description="s; a replica takes seconds to warm")


class DeploymentConfig(_Model):
    """The replicas of one deployment. Ray's own defaults (no queue limit, no request timeout) are unsafe."""

    num_cpus: NonNegativeFloat = Field(1, description="cores Ray reserves a replica")
    num_gpus: NonNegativeFloat = Field(
        0, description="GPUs Ray reserves a replica; only for `runtime: torch`, as no other uses one"
    )
    runtime: RuntimeName = Field(
        RuntimeName.ONNX,
        description="where networks of its stages are computed: onnx (CPU), torch (a GPU), triton (a server)",
    )
    max_ongoing_requests: PositiveInt = Field(
        8, description="calls in one replica at a time, each of up to `batching.max_batch` requests"
    )
    max_queued_requests: PositiveInt = Field(64, description="waiting calls before 503; bounds latency")
    graceful_shutdown_timeout_s: PositiveFloat = Field(20, description="s for requests in flight")
    health_check_period_s: PositiveFloat = Field(5, description="s between two health checks")
    health_check_timeout_s: PositiveFloat = Field(10, description="s before a silent replica is replaced")
    autoscaling: Autoscaling = Autoscaling()

    @model_validator(mode="after")
    def _no_idle_gpu(self) -> Self:
        if self.num_gpus and self.runtime is not RuntimeName.TORCH:
            raise PydanticCustomError(
                "idle_gpu",
                "num_gpus asks for a GPU that runtime {runtime} does not use: set runtime: torch, or "
                "num_gpus: 0",
                {"runtime": self.runtime.value},
            )
        return self


class IngressConfig(DeploymentConfig):
    """The replicas that answer HTTP and run the stages that are in no group."""

    max_ongoing_requests: PositiveInt = Field(
        256, description="requests in one replica at a time; above `limits.in_flight`, which answers first"
    )
    max_queued_requests: PositiveInt = Field(256, description="waiting requests before 503; bounds latency")


class GroupConfig(DeploymentConfig):
    """Stages that share replicas of their own. A hop there and back costs 2 to 3 ms, so a group is for what
    needs a GPU, much memory or its own scaling, and neighbours in the pipeline share one."""

    stages: tuple[Stage, ...] = Field(description="a set: kept in the pipeline's order, whatever was written")

    @field_validator("stages")
    @classmethod
    def _a_set(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if not stages:
            raise PydanticCustomError(
                "no_stage", "name one or more of {stages}", {"stages": ", ".join(_STAGES)}
            )
        return tuple(stage for stage in _STAGES if stage in stages)


INGRESS = "Ingress"
"""Name of the deployment that answers HTTP."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
"""Of a group, and so of its deployment: as Ray Serve takes it ("#" divides ids of replicas), and as it can
be a label of metrics, a part of a process' title and a key of the chart's values."""

_MOVED = {
    "placement": "`placement` is now `groups`, e.g. groups: {accelerated: {stages: [retrieval, ranking]}}; a "
    "stage in no group runs in the ingress",
    "retrieval": "`retrieval` is part of the bundle now: limits are the recipe's (`marquee train --recipe`)",
    "explain": "`explain` is part of the bundle now: its terms are the recipe's (`marquee train --recipe`)",
    "deployments": "`deployments` is now `ingress: {...}` and `groups: {NAME: {stages: [...], ...}}`, with "
    "the same fields",
}
"""Key of an earlier version → what to write instead."""


class ShadowConfig(_Model):
    """Copies of requests for the bundles that answer nobody."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="of production's requests; at 0.1 a shadow costs a tenth of what production does"
    )
    concurrency: PositiveInt = Field(
        2,
        description="copies at a time in a replica; others are dropped, so that a slow shadow cannot pile up",
    )
    budget_ms: PositiveFloat = Field(
        1_000, description="ms for one copy; twice a request's default, as nobody waits for it"
    )


class ServeConfig(_Model):
    bundle: str = Field(
        "", description="fsspec URL or path of the bundle to serve; with traffic_file the first one only"
    )
    traffic_file: str = Field(
        "",
        description="file whose traffic table replicas follow while they run (`serving.traffic.desired`); "
        "the chart mounts a ConfigMap there. Empty: traffic comes from `marquee serve`",
    )
    ingress: IngressConfig = IngressConfig()
    groups: dict[str, GroupConfig] = Field(
        default_factory=dict,
        description="name of a deployment → the stages it runs and its size; other stages run in the ingress",
    )
    runtimes: RuntimeOptions = RuntimeOptions()
    diversity: DiversityConfig = DiversityConfig()
    cache: CacheConfig = CacheConfig()
    budgets: Budgets = Budgets()
    batching: BatchingConfig = BatchingConfig()
    limits: LimitsConfig = LimitsConfig()
    shadow: ShadowConfig = ShadowConfig()
    logs: LogsConfig = LogsConfig()

    @model_validator(mode="before")
    @classmethod
    def _nothing_moved(cls, given: Any) -> Any:
        for key, instead in _MOVED.items():
            if isinstance(given, dict) and key in given:
                raise PydanticCustomError("moved", instead)
        return given

    @field_validator("groups")
    @classmethod
    def _disjoint(cls, groups: dict[str, GroupConfig]) -> dict[str, GroupConfig]:
        group_of: dict[Stage, str] = {}
        for name, group in groups.items():
            if not _NAME.fullmatch(name) or name.lower() == INGRESS.lower():
                raise PydanticCustomError(
                    "group_name",
                    "a group cannot be named {name}: use a letter, then up to 62 letters, digits, - or _, "
                    "and not the ingress's own name",
                    {"name": repr(name)},
                )
            for stage in group.stages:
                if group_of.setdefault(stage, name) != name:
                    raise PydanticCustomError(
                        "stage_twice",
                        "{stage} is in the groups {first} and {second}: leave it in one",
                        {"stage": stage, "first": group_of[stage], "second": name},
                    )
        return groups

    @model_validator(mode="after")
    def _something_to_serve(self) -> Self:
        if not (self.bundle or self.traffic_file):
            raise PydanticCustomError("no_bundle", "name a bundle, or a traffic_file to follow")
        return self

    @property
    def first(self) -> Traffic | None:
        """All traffic on `bundle`; None where none is named."""
        return Traffic.of(self.bundle) if self.bundle else None


class TrafficEntry(_Model):
    bundle: str = Field(min_length=1, max_length=2_048, description="fsspec URL or path")
    weight: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(0, description="percent of the users")
    shadow: bool = Field(False, description="gets copies of production's requests and answers nobody")

    @model_validator(mode="after")
    def _shadows_weigh_nothing(self) -> Self:
        if self.shadow and self.weight:
            raise PydanticCustomError("shadow_weight", "a shadow answers nobody: leave out its weight")
        return self


class Traffic(_Model):
    """Which bundle answers whom, alike on every replica. The first entry is production, the other weighted
    ones are canaries. Bundles are never changed in place, so an URL stands for its contents."""

    traffic: tuple[TrafficEntry, ...] = Field(min_length=1, max_length=MAX_BUNDLES)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.traffic[0].shadow:
            raise PydanticCustomError("no_production", "the first entry is production and cannot be a shadow")
        if (total := sum(entry.weight for entry in self.traffic)) != 100:
            raise PydanticCustomError("weights", "weights must add up to 100, not {total}", {"total": total})
        if len({entry.bundle for entry in self.traffic}) < len(self.traffic):
            raise PydanticCustomError("same_bundle", "every bundle must stand in one entry only")
        return self

    @classmethod
    def of(cls, bundle: str) -> Self:
        """Everything to one bundle."""
        return cls(traffic=(TrafficEntry(bundle=bundle, weight=100),))

    @property
    def bundles(self) -> tuple[str, ...]:
        return tuple(entry.bundle for entry in self.traffic)

    def wire(self) -> list[dict[str, Any]]:
        """The entries as people read and write them: what is not set is left out."""
        entries: list[dict[str, Any]] = self.model_dump(mode="json", exclude_defaults=True)["traffic"]
        return entries
