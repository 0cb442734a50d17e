"""What `manifest.json` of a bundle says, and what a bundle that cannot be used raises.

Standard library only: finding that a bundle is already there must not wait for Arrow or torch to import.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.feedback import Feedback

FORMAT = 4
"""Raised when a reader of the previous format could misread a bundle."""

CATALOGUE = "catalogue"
"""The component that holds the items' features, in every bundle."""

FILE_NAME, POINTER = "manifest.json", "LATEST"


class BundleError(Exception):
    """The bundle is missing, half-written, altered or does not fit; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Attributes:
    version: 12 hex digits over the checksums and `feedback`, so that equal contents have equal versions.
    created: UTC, ISO 8601.
    data_window: first and last event the models saw, UTC, ISO 8601.
    parent: version of the bundle this one was trained from, if any.
    files: file name → sha256.
    inputs: digest of all it was made from (`training.inputs`); "" where nobody recorded it.
    feedback: what the events meant that it was made from, and so what those of its requests mean.
    split: what its models have not seen (`training.data.split`), by which it is judged.
    declared: components and pipelines, as `training.spec.Declaration` reads them.
    metrics: what `marquee evaluate` measured, model → metric → value; empty before.
    """

    name: str
    version: str
    created: str
    data_window: tuple[str, str]
    data_licence: str
    schema_fingerprint: str
    parent: str | None
    seed: int
    files: Mapping[str, str]
    inputs: str = ""
    feedback: Feedback = field(default_factory=Feedback)
    split: str = "leave_one_out"
    declared: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Manifest:
        """What `to_json` wrote; `where` names it in an error.

        Raises:
            BundleError: it is not a manifest, or one of another format.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise BundleError(
                    f"{where} has bundle format {raw['format']}, this version reads {FORMAT}: run "
                    "`marquee train` to make a new one"
                )
            first, last = raw["data_window"]
            manifest = Manifest(
                **{**raw, "data_window": (first, last), "feedback": Feedback(**raw["feedback"])}
            )
            if any(Path(name).name != name for name in manifest.files):
                raise ValueError("a file outside the bundle's folder")
            return manifest
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"{where}/{FILE_NAME} cannot be read ({error}); train again") from error

    def check_files(self, directory: Path) -> None:
        """Raises `BundleError` where a file of the bundle is missing or altered."""
        for name, expected in self.files.items():
            path = directory / name
            if not path.is_file():
                raise BundleError(f"bundle {self.version} lacks {name}; train or copy it again")
            if sha256(path) != expected:
                raise BundleError(
                    f"bundle {self.version}: {name} was altered (sha256 differs); train or copy it again"
                )


def latest(root: Path) -> Path:
    """The folder of the bundle written last.

    Raises:
        BundleError: there is none.
    """
    pointer = root / POINTER
    if not pointer.is_file():
        raise BundleError(f"no bundle in {root}; run `marquee train` first")
    return root / pointer.read_text(encoding="utf-8").strip()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """One rename, so a reader sees the old text or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
