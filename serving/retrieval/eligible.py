"""What a source is told of the items it may bring: injected, so that no source knows of filters."""

from __future__ import annotations

from collections.abc import Callable

from serving.types import Mask, Query

Eligible = Callable[[Query], Mask]
"""bool [n_items]: True for the items that may answer the query."""
