"""Shared fixtures: the folder of real data, if there is one, and deterministic torch."""

import os
from pathlib import Path

import pytest
import torch

import fastfcn
from fastfcn.prediction.predictor import Predictor
from tests.helpers.tiny import tiny_weights

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and weights; tests that need it are skipped if it is missing."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("FASTFCN_SHARED", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"real sample data is not at {folder} (set FASTFCN_SHARED to its folder)")
    return folder


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of the tiny network."""
    return tiny_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors")


@pytest.fixture(scope="session")
def predictor(weights_file: Path) -> Predictor:
    """The tiny network, ready to predict."""
    return fastfcn.load(weights_file, "cpu")
