"""What every suite measures on: one bundle and the users to ask for, the same ones for all arms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class World:
    """Attributes:
    home: a MARQUEE_HOME with prepared data, features and a bundle in service.
    bundle: the bundle's folder.
    work: an empty folder for this run's files.
    """

    home: Path
    bundle: Path
    work: Path
