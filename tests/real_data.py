"""Real data sets that nobody here wrote, where somebody has them: tests skip with a word elsewhere.

`MARQUEE_REAL_DATA` names the folder that holds them; else it is `shared/data` beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_set(name: str) -> Path:
    """The folder of one data set; skips the test where it is not there."""
    folder = Path(os.environ.get("MARQUEE_REAL_DATA") or BESIDE) / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}: MARQUEE_REAL_DATA names the folder that holds real data sets")
    return folder
