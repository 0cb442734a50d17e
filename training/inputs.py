"""What a bundle is made from, as one digest: equal inputs give an equal bundle, so nothing is made twice.

Neither numpy nor torch, so that finding everything up to date takes a fraction of a second.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.data.manifest import TABLE_NAMES
from training.data.manifest import Manifest as DataManifest
from training.manifest import FILE_NAME as BUNDLE_MANIFEST
from training.manifest import BundleError, Manifest, latest, sha256
from training.recipe import Recipe
from training.registry import requirements

_HERE = Path(__file__).parent
_CODE = ("models/**/*.py", "fit/*.py", "*.py", "../features/*.py")
"""What decides how models come out. A change of it, however small, counts as another recipe: training once
too often costs a minute, serving models that today's code would not make costs an investigation."""


def digest(data: Path, schema_fingerprint: str, recipe: Recipe) -> str:
    """sha256 (hex) of the tables, the feature schema, the recipe with its seed, the versions of the
    packages that its kinds come from, and the code.

    Raises:
        DataError: `data` holds no complete data set.
    """
    about = DataManifest.read(data).about
    facts = {
        "tables": {name: sha256(data / f"{name}.parquet") for name in TABLE_NAMES},
        "about": [about.name, about.licence],
        "schema": schema_fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "packages": requirements(recipe.declaration()),
        "code": [sha256(path) for pattern in _CODE for path in sorted(_HERE.glob(pattern))],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def up_to_date(bundles: Path, inputs: str) -> tuple[Path, Manifest] | None:
    """The latest bundle, where it is whole and was made from these inputs."""
    try:
        directory = latest(bundles)
        manifest = Manifest.from_json(
            (directory / BUNDLE_MANIFEST).read_text(encoding="utf-8"), str(directory)
        )
        if manifest.inputs != inputs:
            return None
        manifest.check_files(directory)
    except (BundleError, OSError, ValueError):
        return None
    return directory, manifest
