"""Addresses and places, from the environment: the only module of serving that reads environment variables.

What the platform does is configured by `serving.config` instead. Does not belong here: anything slow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

LOWEST_FREE_PORT = 1
"""0 would let the system choose, and nobody would know where to call."""


class SettingError(Exception):
    """A setting that cannot be used; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Attributes:
    host: HOST, the address to listen on; loopback, because requests carry no key yet.
    port: PORT.
    home: MARQUEE_HOME, where data, features, bundles and the embedded Redis live.
    redis_url: REDIS_URL; None starts the embedded server.
    dataset_path: DATASET_PATH, a data set on disk.
    metrics_dir: MARQUEE_METRICS_DIR, an empty folder in which the replicas of one machine add up their
        metrics; None leaves each replica with its own.
    log_socket: MARQUEE_LOG_SOCKET, where a local run takes its replicas' lines (`serving.console`).
    traffic_file: MARQUEE_TRAFFIC_FILE, where a local run keeps the traffic it shall have; set by the run.
    admin_token: MARQUEE_ADMIN_TOKEN, what callers of the admin endpoints must show.
    traced: whether the OTEL_* variables name a collector for traces and do not switch them off. OpenTelemetry
        reads the other OTEL_* variables itself.
    log_key: MARQUEE_LOG_KEY, the secret with which users are hashed in logs; None leaves users out.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    home: Path = Path(".marquee")
    redis_url: str | None = field(default=None, repr=False)
    dataset_path: Path | None = None
    metrics_dir: Path | None = None
    log_socket: Path | None = None
    traffic_file: Path | None = None
    admin_token: str | None = field(default=None, repr=False)
    traced: bool = False
    log_key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The settings of this process; an empty variable counts as unset.

        Raises:
            SettingError: a variable makes no sense.
        """
        given = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
        defaults = cls()
        return cls(
            host=given.get("HOST", defaults.host),
            port=_port(given["PORT"]) if "PORT" in given else defaults.port,
            home=Path(given.get("MARQUEE_HOME", defaults.home)),
            redis_url=given.get("REDIS_URL"),
            dataset_path=_path(given.get("DATASET_PATH")),
            metrics_dir=_path(given.get("MARQUEE_METRICS_DIR")),
            log_socket=_path(given.get("MARQUEE_LOG_SOCKET")),
            traffic_file=_path(given.get("MARQUEE_TRAFFIC_FILE")),
            admin_token=given.get("MARQUEE_ADMIN_TOKEN"),
            traced=_traced(given),
            log_key=given.get("MARQUEE_LOG_KEY"),
        )

    def override(self, **given: Any) -> Self:
        """These settings, with what the command line said instead; None says nothing."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def needed_redis_url(self) -> str:
        """Raises SettingError where there is none."""
        if self.redis_url is None:
            raise SettingError("REDIS_URL must be set where replicas run")
        return self.redis_url

    def read_admin_token(self) -> str | None:
        """MARQUEE_ADMIN_TOKEN, else what `marquee serve` wrote into `admin_token_file`; None without both."""
        if self.admin_token is not None:
            return self.admin_token
        try:
            return self.admin_token_file.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    @property
    def admin_token_file(self) -> Path:
        return self.home / "admin-token"

    @property
    def bundles(self) -> Path:
        return self.home / "bundles"

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _traced(given: Mapping[str, str]) -> bool:
    """By OpenTelemetry's environment variables
    (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/), but off where no
    endpoint is named: the specification's default, localhost, is nobody in a pod."""
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(
        name in given for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and LOWEST_FREE_PORT <= int(text) <= 65_535:
        return int(text)
    raise SettingError(f"PORT must be a whole number from {LOWEST_FREE_PORT} to 65535, not {text!r}")
