"""Synthetic street scenes, for the tests of datasets in files, packed, and in object storage."""

from pathlib import Path

import pytest

from fastfcn.data.description import DatasetDescription, load_description
from tests.helpers.tiny import write_streets


@pytest.fixture(scope="module")
def streets() -> DatasetDescription:
    return load_description("streets")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("data") / "streets")
