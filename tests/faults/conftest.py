import pytest

from tests.faults.bench import Bench, healthy


@pytest.fixture
def bench() -> Bench:
    return healthy()
