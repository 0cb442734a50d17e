"""Helm, found or fetched once, and each values file in turn."""

from pathlib import Path

import pytest

from k8s.helm import HelmUnavailable, helm
from tests.chart.rendering import VALUES, Chart, Object, label


@pytest.fixture(scope="session")
def chart() -> Chart:
    try:
        return Chart(helm())
    except HelmUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=VALUES, ids=label)
def values(request: pytest.FixtureRequest) -> Path:
    """Every values file of the repository, one after the other."""
    path: Path = request.param
    return path


@pytest.fixture
def objects(chart: Chart, values: Path) -> list[Object]:
    """What the chart makes of one values file."""
    return chart.objects(values)
