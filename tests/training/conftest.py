"""A small world for the tests of training: enough structure to learn, small enough to train in a second."""

from __future__ import annotations

import pytest
import torch

from features.schema import FeatureSchema
from training.data.synthetic import synthesize
from training.data.tables import Tables
from training.dataset import Dataset, build


@pytest.fixture(scope="session")
def tables() -> Tables:
    return synthesize(60, 80, 1_200, seed=1)


@pytest.fixture(scope="session")
def schema(tables: Tables) -> FeatureSchema:
    return FeatureSchema.infer(tables.interactions, tables.items, tables.users)


@pytest.fixture(scope="session")
def dataset(tables: Tables, schema: FeatureSchema) -> Dataset:
    return build(tables, schema)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
