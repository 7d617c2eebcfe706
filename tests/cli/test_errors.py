"""User errors: one clear message, no traceback, exit code 2, and no partial results."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.command import Finished, fastfcn
from tests.helpers.tiny import NARROW, tiny_recipe, tiny_weights, write_streets


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors")


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    return write_streets(tmp_path / "streets", 4, 2)


def assert_refused(done: Finished, *words: object) -> None:
    """Exit code 2 and, on stderr, one message that says all of `words` (there may be a progress bar above it)."""
    assert done.code == 2, done
    assert done.err.count("Error:") == 1, done.err
    assert "Traceback" not in done.err, done.err
    for word in words:
        assert str(word) in done.err


def train(data: Path, out: Path, *more: str) -> Finished:
    machine = ("--data", data, "--out", out, "--accelerator", "cpu", "--workers", "0")
    return fastfcn("train", "demo", *NARROW, *machine, *more)


def mask_of(streets: Path, split: str = "train") -> Path:
    return sorted((streets / "labels" / split).iterdir())[1]


def image_of(streets: Path, split: str = "train") -> Path:
    return sorted((streets / "images" / split).iterdir())[1]


def change_mask(path: Path, value: int, pixels: int) -> None:
    with Image.open(path) as image:
        label = np.array(image)
    label.ravel()[:pixels] = value
    Image.fromarray(label).save(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Recipes.


def test_a_wrong_recipe_key():
    assert_refused(fastfcn("recipe", "demo", "optim.learning_rate=1"), "optim.learning_rate", "unknown key")


def test_a_recipe_file_with_mistakes_lists_them_all(tmp_path: Path, streets: Path):
    text = tiny_recipe().text.replace("momentum = 0.9", "momentun = 0.9").replace("flip = 0.5", 'flip = "often"')
    (tmp_path / "mine.toml").write_text(text)
    done = fastfcn("train", tmp_path / "mine.toml", "--data", streets, "--out", tmp_path / "run")
    assert_refused(done, tmp_path / "mine.toml", "optim.momentun", "momentum", "data.flip", "often")
    assert not (tmp_path / "run").exists()


def test_an_unknown_recipe():
    assert_refused(fastfcn("recipe", "fastfcn_r50_psp_camvit"), 'did you mean "fastfcn_r50_psp_camvid"')


def test_a_backbone_that_cannot_be_used_is_refused_before_data_is_read(tmp_path: Path):
    change = 'backbone={kind="pyramid", name="vit_tiny_patch16_224", pretrained="none"}'
    words = ("backbone.name", "vit_tiny_patch16_224", "strides", "convnext_tiny")
    assert_refused(train(tmp_path / "no_data", tmp_path / "run", change), *words)
    assert_refused(fastfcn("recipe", "demo", change), *words)


# Data.


def test_a_missing_data_folder(weights: Path, tmp_path: Path):
    missing = tmp_path / "no" / "such" / "folder"
    assert_refused(train(missing, tmp_path / "run"), missing, "does not exist")
    assert not (tmp_path / "run").exists()
    assert_refused(fastfcn("evaluate", weights, "--data", missing), missing, "does not exist")


def test_a_data_folder_of_another_kind(weights: Path, tmp_path: Path):
    assert_refused(fastfcn("evaluate", weights, "--data", tmp_path), tmp_path, "images/val/{name}.png")


def test_an_unknown_split(weights: Path, streets: Path):
    assert_refused(fastfcn("evaluate", weights, "--data", streets, "--split", "test"), "'test'", "train, val")


def test_a_label_out_of_range(streets: Path, tmp_path: Path, weights: Path):
    for split, name in (("train", 200), ("val", 201)):
        change_mask(mask_of(streets, split), name, pixels=37)
    done = train(streets, tmp_path / "run")
    assert_refused(done, mask_of(streets), "value 200 in 37 pixels")
    done = fastfcn("evaluate", weights, "--data", streets, "--accelerator", "cpu", "--workers", "0")
    assert_refused(done, mask_of(streets, "val"), "value 201 in 37 pixels")


def test_a_mask_of_another_size(streets: Path, tmp_path: Path, weights: Path):
    for split in ("train", "val"):
        with Image.open(mask_of(streets, split)) as image:
            smaller = image.resize((90, 60), Image.Resampling.NEAREST)
        smaller.save(mask_of(streets, split))
    assert_refused(train(streets, tmp_path / "run"), mask_of(streets), "60 x 90", "64 x 96")
    done = fastfcn("evaluate", weights, "--data", streets, "--accelerator", "cpu", "--workers", "0")
    assert_refused(done, mask_of(streets, "val"), "60 x 90", "64 x 96")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_image(streets: Path, tmp_path: Path, weights: Path, workers: str):
    """Also for images read by a worker process, whose traceback is not printed."""
    for split in ("train", "val"):
        truncate(image_of(streets, split))
    done = train(streets, tmp_path / "run", "--workers", workers)
    assert_refused(done, image_of(streets), "cannot be read")
    done = fastfcn("evaluate", weights, "--data", streets, "--accelerator", "cpu", "--workers", workers)
    assert_refused(done, image_of(streets, "val"), "cannot be read")


def test_a_truncated_mask(streets: Path, tmp_path: Path):
    truncate(mask_of(streets))
    assert_refused(train(streets, tmp_path / "run"), mask_of(streets), "cannot be read")


def test_after_fixing_the_data_the_same_command_works(streets: Path, tmp_path: Path):
    before = mask_of(streets).read_bytes()
    change_mask(mask_of(streets), 200, pixels=1)
    assert_refused(train(streets, tmp_path / "run"), "value 200")
    mask_of(streets).write_bytes(before)
    done = train(streets, tmp_path / "run", "optim.steps=1", "eval.every=1")
    assert done.code == 0, done


def test_no_image_to_predict(weights: Path, tmp_path: Path):
    done = fastfcn("predict", weights, tmp_path / "*.jpg", "--out", tmp_path / "out")
    assert_refused(done, "no image or video has this name", "*.jpg")
    assert not (tmp_path / "out").exists()


# Weights and checkpoints.


def test_an_unknown_checkpoint(streets: Path, tmp_path: Path):
    missing, out = tmp_path / "missing.safetensors", tmp_path / "out"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert_refused(fastfcn("evaluate", missing, "--data", streets), missing, "There is no file")
    assert_refused(fastfcn("predict", missing, tmp_path / "a.png", "--out", out), missing, "There is no file")
    assert_refused(fastfcn("convert", missing, "--recipe", "demo", "--out", out), missing, "There is no file")
    change = f'backbone={{kind="pyramid", name="test_resnet", pretrained="{missing}"}}'
    assert_refused(train(streets, tmp_path / "run", change), missing, "there is no file", '"none"')


def test_a_file_that_is_not_a_weights_file(streets: Path, tmp_path: Path):
    (tmp_path / "w.safetensors").write_text("<html>404 Not Found</html>")
    done = fastfcn("evaluate", tmp_path / "w.safetensors", "--data", streets)
    assert_refused(done, tmp_path / "w.safetensors", "is not a weights file of fastfcn")


class Attack:
    """Unpickling it would create the file `trace`."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


def test_a_checkpoint_with_code_in_it(streets: Path, tmp_path: Path):
    attack, checkpoint = Attack(tmp_path / "trace"), tmp_path / "attack.pth"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": attack}, checkpoint)
    done = fastfcn("convert", checkpoint, "--recipe", "demo", "--out", tmp_path / "w.safetensors")
    assert_refused(done, checkpoint, f"{os.system.__module__}.system", "nothing was run")
    assert not (tmp_path / "w.safetensors").exists()
    change = f'backbone={{kind="pyramid", name="test_resnet", pretrained="{checkpoint}"}}'
    assert_refused(train(streets, tmp_path / "run", change), checkpoint, "nothing was run")
    done = fastfcn("evaluate", checkpoint, "--data", streets)
    assert_refused(done, "is a PyTorch checkpoint", f"fastfcn convert {checkpoint}")
    assert not attack.trace.exists()


def test_a_checkpoint_of_another_network(tmp_path: Path):
    torch.save({"state_dict": {"decode_head.conv_seg.weight": torch.ones(19, 64, 1, 1)}}, tmp_path / "a.pth")
    done = fastfcn("convert", tmp_path / "a.pth", "--recipe", "demo", "--out", tmp_path / "w.safetensors")
    assert_refused(done, "wrong shape: head.classifier.weight is [19, 64, 1, 1]", "missing: ", "more")


# Outputs.


def test_an_output_that_cannot_be_written(weights: Path, streets: Path, tmp_path: Path):
    """A path below a file: not even root can write there."""
    blocked = tmp_path / "file" / "below"
    (tmp_path / "file").write_text("x")
    assert_refused(train(streets, blocked), blocked)
    assert_refused(fastfcn("predict", weights, image_of(streets), "--out", blocked), blocked)
    assert_refused(fastfcn("demo", "--out", blocked), blocked)


def test_scores_that_cannot_be_written_are_known_before_the_work(weights: Path, streets: Path, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    arguments = ("--data", streets, "--accelerator", "cpu", "--workers", "0", "--json")
    done = fastfcn("evaluate", weights, *arguments, tmp_path / "file" / "scores.json")
    assert_refused(done, tmp_path / "file")
    assert "mIoU" not in done.out


def test_a_run_that_is_there_already(streets: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    tiny_recipe().save(tmp_path / "run" / "recipe.toml")
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert_refused(train(streets, tmp_path / "run"), "already contains a run", "--resume")
    assert_refused(train(streets, tmp_path / "run", "optim.lr=0.5", "--resume"), "optim.lr", "0.5 in this recipe")


# The machine.


def test_a_machine_that_is_not_there(weights: Path, streets: Path, tmp_path: Path):
    done = fastfcn("evaluate", weights, "--data", streets, "--precision", "7-bits", "--accelerator", "cpu")
    assert_refused(done, "7-bits", "--precision")
    done = fastfcn("evaluate", weights, "--data", streets, "--accelerator", "abacus")
    assert_refused(done, "abacus", "--accelerator")
    assert_refused(train(streets, tmp_path / "run", "--accumulate", "3"), "batch of 4", "--accumulate")
    done = fastfcn("predict", weights, image_of(streets), "--out", tmp_path / "out", "--device", "abacus")
    assert_refused(done, "abacus")


def test_a_flag_that_is_not_there(weights: Path):
    for arguments in (("evaluate", weights), ("evaluate", weights, "--data", ".", "--nonsense"), ("paint",)):
        done = fastfcn(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "option", ["--timeout", "--upload-timeout", "--max-mib", "--max-megapixels", "--queue-seconds"]
)
def test_limits_of_the_service_are_finite(option: str):
    done = fastfcn("serve", "weights.safetensors", option, "inf")
    assert done.code == 2
    assert option in done.err
    assert "finite" in done.err


def test_as_a_program(tmp_path: Path):
    """The same in a separate process, with `python -m fastfcn`."""
    command = [sys.executable, "-m", "fastfcn", "recipe", "demo", "optim.steps=many"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert_refused(Finished(done.returncode, done.stdout, done.stderr), "optim.steps", "many")
    assert done.stdout == ""
