"""Untrusted checkpoints: bookkeeping is skipped, code is named but never run, and corrupt files are reported."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastfcn.errors import WeightsError
from fastfcn.weights.checkpoint import Placeholder, read_checkpoint, state_dict
from tests.helpers.openmmlab_files import pretended, save_0x, save_1x

STATE = {"decode_head.conv_seg.weight": torch.arange(6.0).reshape(2, 3)}


class Attack:
    """Unpickling it would write the file `trace`."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


def assert_refused(path: Path, name: str) -> None:
    with pytest.raises(WeightsError) as error:
        read_checkpoint(path)
    assert f"{path} asks for {name}," in error.value.message
    assert "nothing was run" in error.value.message
    assert "weights_only" not in str(error.value)  # PyTorch suggests disabling the safeguard


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "inside", "alone"])
def test_code_is_named_and_not_run(tmp_path: Path, zipped: bool, place: str):
    attack = Attack(tmp_path / "trace")
    content: Any = {
        "beside": {"state_dict": STATE, "extra": attack},
        "inside": {"state_dict": {"weight": attack}},
        "alone": attack,
    }[place]
    path = tmp_path / "attack.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_refused(path, f"{os.system.__module__}.system")
    assert not attack.trace.exists()
    torch.load(path, weights_only=False)  # the safeguard is needed
    assert attack.trace.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_plain_pickle_with_code_is_refused(tmp_path: Path, protocol: int):
    path, attack = tmp_path / "attack.pth", Attack(tmp_path / "trace")
    path.write_bytes(pickle.dumps(attack, protocol=protocol))
    with pytest.raises(WeightsError):
        read_checkpoint(path)
    assert not attack.trace.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (os.path.join, f"{os.path.__name__}.join"),
        (eval, "eval"),
        (io.StringIO, "_io.StringIO"),
    ],
)
def test_any_other_type_is_refused_by_name(tmp_path: Path, value: Any, name: str):
    torch.save({"state_dict": STATE, "value": value}, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", name)


def test_a_type_of_an_unknown_library_is_refused_by_name(tmp_path: Path):
    with pretended("some_library.training.Config") as config:
        torch.save({"state_dict": STATE, "config": config()}, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", "some_library.training.Config")


def test_bookkeeping_becomes_inert(tmp_path: Path):
    content = read_checkpoint(save_1x(tmp_path / "a.pth", STATE, ["road", "sky"]))
    hub = content["message_hub"]
    assert type(hub["log_scalars"]["train/loss"]) is Placeholder
    assert not vars(hub["log_scalars"]["train/loss"])
    assert type(hub["runtime_info"]["best"]) is Placeholder
    assert content["meta"]["dataset_meta"]["classes"] == ("road", "sky")
    assert torch.equal(
        state_dict(content, "a.pth")["decode_head.conv_seg.weight"], STATE["decode_head.conv_seg.weight"]
    )


def test_the_format_of_2021(tmp_path: Path):
    content = read_checkpoint(save_0x(tmp_path / "a.pth", STATE, ["road", "sky"]))
    assert content["meta"]["CLASSES"] == ["road", "sky"]
    assert content["optimizer"]["param_groups"][0]["lr"] == 0.01


def test_bookkeeping_is_known_inside_the_reader_alone(tmp_path: Path):
    path = save_1x(tmp_path / "a.pth", STATE, ["road"])
    read_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "name", ["mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "addict.addict.Dict"]
)
def test_dictionaries_with_attributes_become_plain_ones(tmp_path: Path, name: str):
    with pretended(name, bases=(dict,)) as kind:
        torch.save({"state_dict": STATE, "cfg": kind(a=1, b=kind(c=[2]))}, tmp_path / "a.pth")
    assert dict(read_checkpoint(tmp_path / "a.pth")["cfg"]) == {"a": 1, "b": {"c": [2]}}


def test_numpy_of_any_kind_is_passed_over(tmp_path: Path):
    values = [np.ones(3, dtype=kind) for kind in (np.int64, np.float32, np.uint8, bool)]
    scalars = [np.float64(1), np.int32(2), np.bool_(True), np.array(["text"]), np.zeros((2, 0))]
    torch.save({"state_dict": STATE, "values": values + scalars, "path": Path("work_dirs/run")}, tmp_path / "a.pth")
    content = read_checkpoint(tmp_path / "a.pth")
    assert {type(value) for value in content["values"]} == {Placeholder}
    assert type(content["path"]) is Placeholder


def saved(content: Any, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


DAMAGED = {
    "empty": b"",
    "random": np.random.default_rng(0).bytes(5000),
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13\n",
    "text in c": b"checkpoint of mine\nsecond line\n",
    "web page": b"<!DOCTYPE html><html><title>404 Not Found</title></html>\n",
    "cut short": saved({"state_dict": STATE})[:-300],
    "cut very short": saved({"state_dict": STATE})[:100],
    "old format cut short": saved({"state_dict": STATE}, _use_new_zipfile_serialization=False)[:-10],
    "one byte flipped": saved({"state_dict": STATE}).replace(b"state_dict", b"state\xffdict"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_invalid_checkpoints(tmp_path: Path, kind: str):
    path = tmp_path / "a.pth"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(WeightsError, match=r"a\.pth is not a PyTorch checkpoint, or is damaged") as error:
        read_checkpoint(path)
    assert "Download it again" in error.value.hint
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_a_weights_error_or_goes_unseen(tmp_path: Path, seed: int):
    """Random byte flips may raise no other error."""
    random = np.random.default_rng(seed)
    data = bytearray(saved({"state_dict": STATE, "meta": {"CLASSES": ["a"]}}, _use_new_zipfile_serialization=seed % 2))
    for place in random.integers(0, len(data), 3):
        data[place] ^= int(random.integers(1, 256))
    (tmp_path / "a.pth").write_bytes(data)
    try:
        assert isinstance(read_checkpoint(tmp_path / "a.pth"), dict)
    except WeightsError as error:
        assert "a.pth" in error.message  # noqa: PT017 - either is right


def test_no_file(tmp_path: Path):
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(WeightsError, match="There is no file"):
            read_checkpoint(path)


def test_not_a_dictionary(tmp_path: Path):
    torch.save([torch.ones(2)], tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="contains a list, not a dictionary"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": STATE}, {"model": STATE, "epoch": 3}, STATE, {"module." + k: v for k, v in STATE.items()}],
)
def test_weights_are_read_from_all_common_places(content: dict):
    tensors = state_dict(content, "a.pth")
    assert list(tensors) == list(STATE)
    assert torch.equal(tensors["decode_head.conv_seg.weight"], STATE["decode_head.conv_seg.weight"])


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "lr": 0.1}, {"state_dict": {}}, {"state_dict": torch.ones(1)}])
def test_a_checkpoint_without_weights(content: dict):
    with pytest.raises(WeightsError, match=r"a\.pth contains no weights"):
        state_dict(content, "a.pth")
