"""One API server a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.apiserver import Served, served


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as server:
        yield server
