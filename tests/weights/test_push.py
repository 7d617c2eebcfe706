"""Uploading to and downloading from a local fake of the Hub, and error messages."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants

import fastfcn
from fastfcn import weights
from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction.predictor import Predictor
from tests.helpers import command
from tests.helpers.fake_hub import TOKEN, FakeHub, fake_hub
from tests.helpers.tiny import picture, save_picture


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub() as server:
        point_to(server.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template[1] + template[2])


@pytest.fixture
def logged_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.delenv("HF_TOKEN")
    return hub


def test_there_and_back(hub: FakeHub, weights_file: Path, predictor: Predictor, tmp_path: Path):
    done = command.fastfcn("push", weights_file, "me/streets", "--message", "first try")
    assert done.code == 0, done
    assert f"{hub.address}/me/streets" in done.out
    files = hub.models["me/streets"]["files"]
    assert sorted(files) == ["README.md", "config.json", "recipe.toml", "weights.safetensors"]
    assert files["weights.safetensors"] == weights_file.read_bytes()
    assert not hub.models["me/streets"]["private"]
    assert hub.messages == ["first try"]
    pixels = picture()
    for loaded in (fastfcn.load("hf://me/streets", "cpu"), fastfcn.from_pretrained("me/streets@v1", "cpu")):
        assert np.array_equal(loaded(pixels).labels, predictor(pixels).labels)
    image = save_picture(tmp_path / "a.png")
    done = command.fastfcn("predict", "hf://me/streets", image, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done
    done = command.fastfcn("info", "hf://me/streets")
    assert "mIoU 12.50" in done.out
    for more in ((), ("--report", tmp_path / "page.html")):
        done = command.fastfcn("evaluate", "hf://me/streets", "--data", tmp_path / "nothing", *more)
        assert "nothing does not exist" in done.err.replace("\n", " "), "the weights are there, the data are not"


def test_a_new_version_takes_the_place_of_the_old(hub: FakeHub, weights_file: Path):
    hub.models["me/streets"] = {"private": False, "files": {"notes.md": b"mine", "README.md": b"old"}}
    assert command.fastfcn("push", weights_file, "me/streets").code == 0
    files = hub.models["me/streets"]["files"]
    assert files["README.md"] != b"old"
    assert files["notes.md"] == b"mine"


def test_private_stays_private(hub: FakeHub, weights_file: Path, monkeypatch: pytest.MonkeyPatch):
    assert command.fastfcn("push", weights_file, "me/streets", "--private").code == 0
    assert hub.models["me/streets"]["private"]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WeightsError, match="no model of that name, or it is private") as error:
        fastfcn.load("hf://me/streets", "cpu")
    assert "HF_TOKEN" in error.value.hint


def test_what_was_meant_to_be_private_is_not_sent_to_a_public_model(hub: FakeHub, weights_file: Path):
    hub.models["me/streets"] = {"private": False, "files": {}}
    done = command.fastfcn("push", weights_file, "me/streets", "--private")
    assert done.code == 2
    assert "already exists and is public" in done.err
    assert hub.models["me/streets"]["files"] == {}


def test_without_a_login(logged_out: FakeHub, weights_file: Path):
    done = command.fastfcn("push", weights_file, "me/streets")
    assert done.code == 2
    assert "you are not logged in" in done.err
    assert "hf auth login" in done.err
    assert "--dry-run" in done.err
    assert logged_out.requests == []


@pytest.mark.parametrize(("token", "name"), [("hf_wrong", "me/streets"), (TOKEN, "you/streets")])
def test_without_the_right_to(hub: FakeHub, weights_file: Path, monkeypatch, token: str, name: str):
    monkeypatch.setenv("HF_TOKEN", token)
    done = command.fastfcn("push", weights_file, name)
    assert done.code == 2
    assert "denies access" in done.err
    assert "hf auth login" in done.err
    assert "Traceback" not in done.err


def test_missing_models_and_files(hub: FakeHub):
    hub.models["me/other"] = {"private": False, "files": {"model.bin": b"x"}}
    hub.models["me/broken"] = {"private": False, "files": {"weights.safetensors": b"x" * 99}}
    for address, message in (
        ("hf://me/nothing", "no model of that name"),
        ("hf://me/other", "has no weights.safetensors"),
        ("hf://me/other@v9", "no such version"),
        ("hf://me/broken", "is not a weights file of fastfcn, or is damaged"),
        ("hf://me", "is not an address"),
        ("hf://me/a/b", "is not an address"),
        ("hf://me/..", "is not an address"),
    ):
        with pytest.raises(WeightsError, match=message):
            fastfcn.load(address, "cpu")


def test_without_a_network(hub: FakeHub, weights_file: Path, monkeypatch: pytest.MonkeyPatch):
    point_to("http://127.0.0.1:9", monkeypatch)  # no server on this port
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
    with pytest.raises(UserError, match="the Hub cannot be reached"):
        fastfcn.load("hf://me/streets", "cpu")
    done = command.fastfcn("push", weights_file, "me/streets")
    assert done.code == 2
    assert "the Hub cannot be reached" in done.err


def test_a_dry_run_sends_nothing(logged_out: FakeHub, weights_file: Path, tmp_path: Path):
    done = command.fastfcn(
        "push", weights_file, "me/streets", "--dry-run", tmp_path / "card", "--license", "apache-2.0"
    )
    assert done.code == 0, done
    assert logged_out.requests == []
    assert (tmp_path / "card" / "weights.safetensors").read_bytes() == weights_file.read_bytes()
    stored = weights.read(weights_file)
    assert (tmp_path / "card" / "recipe.toml").read_text() == stored.recipe.text
    config = json.loads((tmp_path / "card" / "config.json").read_text())
    assert config["library_name"] == "fastfcn"
    assert config["file"] == "weights.safetensors"  # without a local path
    card = ModelCard.load(tmp_path / "card" / "README.md")  # as the Hub reads it
    assert (card.data.library_name, card.data.pipeline_tag) == ("fastfcn", "image-segmentation")
    assert card.data.license == "apache-2.0"
    [result] = card.data.eval_results or []
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("mean_iou", 12.5, "streets")
    for index, entry in enumerate(stored.description.classes):
        assert f"| {index} | {entry.name} | `#{bytes(entry.color).hex()}` |" in card.text
    assert 'fastfcn.load("hf://me/streets")' in card.text
    recipe = card.text.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(recipe) == tomllib.loads(stored.recipe.text)


def test_a_name_that_is_none(weights_file: Path, tmp_path: Path):
    done = command.fastfcn("push", weights_file, "streets", "--dry-run", tmp_path / "card")
    assert done.code == 2
    assert "USER/NAME" in done.err


def test_a_file_that_is_not_a_weights_file(hub: FakeHub, tmp_path: Path):
    (tmp_path / "w.safetensors").write_text("x")
    assert command.fastfcn("push", tmp_path / "w.safetensors", "me/streets").code == 2
    assert hub.requests == []
