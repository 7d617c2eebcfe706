"""One synthetic video for all tests."""

from pathlib import Path

import pytest

from tests.helpers.synthetic_video import write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames at 25 fps, with audio."""
    return write_video(tmp_path_factory.mktemp("video") / "drive.mp4")
