"""Copies a bundle to where replicas read it: a volume, S3, GCS, anything fsspec has.

Does not belong here: bringing it into service; that is a rollout's.
"""

from __future__ import annotations

from pathlib import Path

import fsspec

from training.manifest import FILE_NAME

PARTIAL = ".partial"


class PublishError(Exception):
    """A bundle that could not be copied; the text says where to and why."""


def publish(bundle: Path, store: str) -> str:
    """Copies the folder `bundle` to `store/<its name>`, unless it is there. The manifest comes last, so that
    a bundle with a manifest is whole; a copy that was cut short is done again.

    Args:
        store: a path or fsspec URL of the folder that holds bundles.

    Returns:
        The URL of the copy.

    Raises:
        PublishError: the store cannot be written.
    """
    url = f"{store.rstrip('/')}/{bundle.name}"
    try:
        files, target = fsspec.core.url_to_fs(url)
        if files.exists(f"{target}/{FILE_NAME}"):
            return url
        files.makedirs(target, exist_ok=True)
        for path in sorted(bundle.iterdir()):
            if path.name != FILE_NAME:
                files.put_file(str(path), f"{target}/{path.name}")
        files.put_file(str(bundle / FILE_NAME), f"{target}/{FILE_NAME}{PARTIAL}")
        files.mv(f"{target}/{FILE_NAME}{PARTIAL}", f"{target}/{FILE_NAME}")
    except Exception as error:  # each file system has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PublishError(f"bundle {bundle.name} cannot be copied to {store}: {reason}") from error
    return url
