"""One service for all tests that do nothing unusual to it."""

from collections.abc import Iterator

import pytest

from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import RunningService, running


@pytest.fixture(scope="session")
def service(predictor: Predictor) -> Iterator[RunningService]:
    """The tiny network, served with small limits."""
    settings = Settings(name="tiny", max_pixels=200_000, max_bytes=300_000, max_images=4, max_batch=2)
    with running([predictor], settings) as it:
        yield it
