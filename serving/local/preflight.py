"""What can be known to be wrong before anything slow happens. Each check is one line of `marquee doctor`.

Does not belong here: bundles and features, which the steps between `doctor` and `serve` make.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serving.local.ports import check_port
from serving.settings import SettingError, Settings

PYTHON = (3, 11)

DISK_BYTES = 1 << 30
"""Free space to start with: MovieLens-100K needs 0.1 GB in all, Ray refuses to work when the disk is full."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Attributes:
    check: what was looked at.
    ok: whether it will do.
    detail: what was found, or what to do.
    """

    check: str
    ok: bool
    detail: str


def findings(settings: Settings) -> Iterator[Finding]:
    """Every check, in order; none of them changes anything but for an empty MARQUEE_HOME being made."""
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("Python", _python),
        ("PORT", _port),
        ("MARQUEE_HOME", _home),
        ("disk", _disk),
        ("REDIS_URL", _redis),
        ("DATASET_PATH", _dataset),
    )
    for name, check in checks:
        try:
            yield Finding(name, True, check(settings))
        except (SettingError, OSError) as error:
            yield Finding(name, False, str(error))


def _python(_: Settings) -> str:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        raise SettingError(f"Marquee needs Python {PYTHON[0]}.{PYTHON[1]} or later, this is {here}")
    return here


def _port(settings: Settings) -> str:
    check_port(settings)
    return f"{settings.host}:{settings.port} is free"


def _home(settings: Settings) -> str:
    home = settings.home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{home} cannot be made ({error.strerror}); set MARQUEE_HOME") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise SettingError(f"{home} cannot be written to; set MARQUEE_HOME")
    return str(home)


def _disk(settings: Settings) -> str:
    existing = next(
        path for path in (settings.home.absolute(), *settings.home.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(existing).free
    if free < DISK_BYTES:
        raise SettingError(f"{free / 1e9:.1f} GB free at {existing}, {DISK_BYTES / 1e9:.1f} GB needed")
    return f"{free / 1e9:.0f} GB free"


def _redis(settings: Settings) -> str:
    if settings.redis_url is None:
        return "not set: the embedded server is used"
    from features.marker import materialized
    from features.redis_address import RedisUrlError, redacted
    from features.store import OnlineStoreError

    try:
        materialized(settings.redis_url)
    except (OnlineStoreError, RedisUrlError) as error:
        raise SettingError(str(error)) from None
    return f"{redacted(settings.redis_url)} answers"


def _dataset(settings: Settings) -> str:
    path = settings.dataset_path
    if path is None:
        return "not set: DATASET is used"
    if not path.exists():
        raise SettingError(f"{path} does not exist")
    if not os.access(path, os.R_OK):
        raise SettingError(f"{path} cannot be read")
    return str(path)
