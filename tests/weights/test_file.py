"""Weights files: one file holds network, recipe, classes and colors; clear error messages."""

import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from fastfcn import build, recipes, weights
from fastfcn.errors import OutputError, RecipeError, WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.weights.file import tensor_bytes
from fastfcn.weights.header import checksum, read_header
from tests.helpers.tiny import tiny_model, tiny_recipe, tiny_weights


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return tiny_model()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_weights(tmp_path / "weights.safetensors")


def header_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(str(path), framework="pt") as file:
        return file.metadata()


def rewrite(path: Path, **changes: str | None) -> None:
    """The same tensors under a changed header, without a checksum unless given; None takes a key out."""
    changes = {"checksum": None, **changes}
    header = {key: value for key, value in (header_of(path) | changes).items() if value is not None}
    with safetensors.safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, header)


def test_saved_weights_are_loaded(path: Path, model: Segmenter):
    stored = weights.read(path)
    assert stored.facts == {"miou": 12.5}
    assert stored.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(stored.tensors[name], value) for name, value in model.state_dict().items())
    loaded = weights.load_model(stored)
    assert not loaded.training
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))


def test_the_recipe_is_kept_byte_for_byte(tmp_path: Path, model: Segmenter):
    text = tiny_recipe().text.replace("seed = 0", "seed = 0  # Straße, 道路", 1) + "\n# the end\n"
    used = recipes.parse(text, "test")
    weights.save(tmp_path / "w.safetensors", model, used, build.description(used))
    assert weights.read(tmp_path / "w.safetensors").recipe.text == text
    assert "# was 64" in text  # including marks of changes


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "pascal_context", "camvid"])
def test_classes_colors_and_ids_are_kept(tmp_path: Path, name: str):
    """They come from the file, not from the catalog, so that a custom dataset works everywhere."""
    used = tiny_recipe(f"data.dataset={name}")
    description = build.description(used)
    model = build.create(used)
    weights.save(tmp_path / "w.safetensors", model, used, description)
    stored = weights.read(tmp_path / "w.safetensors")
    assert stored.description == description
    assert stored.facts == {}


def test_the_dataset_may_be_missing(tmp_path: Path, model: Segmenter):
    description = build.description(tiny_recipe())
    used = tiny_recipe("data.dataset=/no/longer/there/mine.toml")
    weights.save(tmp_path / "w.safetensors", model, used, description)
    stored = weights.read(tmp_path / "w.safetensors")
    assert weights.load_model(stored).head.classifier.out_channels == 9
    assert stored.description.class_names[2] == "road"


def test_tensors_of_any_layout_and_place(tmp_path: Path):
    model = tiny_model().to(memory_format=torch.channels_last).requires_grad_()
    weights.save(tmp_path / "w.safetensors", model, tiny_recipe(), build.description(tiny_recipe()))
    stored = weights.read(tmp_path / "w.safetensors")
    assert all(torch.equal(stored.tensors[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("keep", [0, 5, 100, 3000, 100_000, -1])
def test_a_truncated_file(path: Path, keep: int):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"weights\.safetensors is not a weights file of fastfcn, or is damaged"):
        weights.read(path)


@pytest.mark.parametrize("content", [b"text\n" * 40, bytes(range(256)) * 10, b"\xff" * 100, b"\0" * 100])
def test_another_kind_of_file(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a weights file of fastfcn") as error:
        weights.read(path)
    assert "fastfcn convert" in error.value.hint


def test_a_pytorch_checkpoint_is_refused_with_a_hint(tmp_path: Path):
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="is a PyTorch checkpoint") as error:
        weights.read(tmp_path / "a.pth")
    assert f"fastfcn convert {tmp_path / 'a.pth'} --recipe" in error.value.hint


def test_no_file(tmp_path: Path):
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(WeightsError, match=r"There is no file|is a folder"):
            weights.read(path)


def test_safetensors_of_others(tmp_path: Path, path: Path):
    save_file({"a": torch.ones(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(WeightsError, match="it has no fastfcn header"):
        weights.read(tmp_path / "theirs.safetensors")
    rewrite(path, format="fastfcn-weights-99")
    with pytest.raises(WeightsError, match="its format is 'fastfcn-weights-99'"):
        weights.read(path)


@pytest.mark.parametrize(
    "changes",
    [{"dataset": None}, {"facts": None}, {"recipe": None}, {"dataset": "{"}, {"dataset": "{}"}, {"facts": "not json"}],
)
def test_a_damaged_header(path: Path, changes: dict):
    rewrite(path, **changes)
    with pytest.raises(WeightsError, match="its header") as error:
        weights.read(path)
    assert len(error.value.message.splitlines()) == 1


def test_a_recipe_that_is_wrong_is_named_with_its_file(path: Path):
    rewrite(path, recipe=header_of(path)["recipe"].replace("lr = ", "learning_rate = "))
    with pytest.raises(RecipeError, match=r"weights\.safetensors is not a valid recipe"):
        weights.read(path)


def test_tensors_that_do_not_fit_the_recipe(path: Path):
    changed = tiny_recipe("neck.width=16").text
    rewrite(path, recipe=changed)
    with pytest.raises(WeightsError, match=r"wrong shape: neck\.lateral\.0\.conv\.weight"):
        weights.load_model(weights.read(path))


def test_classes_that_do_not_fit_the_tensors(path: Path):
    description = build.description(tiny_recipe("data.dataset=cityscapes"))
    rewrite(path, dataset=description.model_dump_json())
    with pytest.raises(
        WeightsError, match=r"head\.classifier\.weight is \[9, 8, 1, 1\], the network has \[19, 8, 1, 1\]"
    ):
        weights.load_model(weights.read(path))


def test_a_failed_write_leaves_the_old_file(path: Path, model: Segmenter):
    """The disk is full: no file may grow beyond a few bytes."""
    resource = pytest.importorskip("resource")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*weights\.safetensors"):
            weights.save(path, model, tiny_recipe(), build.description(tiny_recipe()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_output_below_a_file(path: Path, model: Segmenter):
    with pytest.raises(OutputError):
        weights.save(path / "w.safetensors", model, tiny_recipe(), build.description(tiny_recipe()))


def test_the_header_is_text_that_others_can_read(path: Path):
    header = header_of(path)
    assert header["format"] == "fastfcn-weights-1"
    assert json.loads(header["dataset"])["classes"][2] == {"name": "road", "color": [92, 92, 110], "ids": [2]}


def test_others_may_read_it_as_any_new_file(tmp_path: Path):
    path = tiny_weights(tmp_path / "weights.safetensors")
    (tmp_path / "plain.txt").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_a_flipped_bit_is_noticed(path: Path, place: float):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises((WeightsError, RecipeError), match=r"weights\.safetensors"):
        weights.read(path)


def test_a_changed_value_in_the_header_is_noticed(path: Path):
    rewrite(path, facts='{"miou": 92.5}', checksum=header_of(path)["checksum"])
    with pytest.raises(WeightsError, match="its content has changed since it was written"):
        weights.read(path)


def test_a_file_without_a_checksum_is_read(path: Path, model: Segmenter):
    rewrite(path)
    assert "checksum" not in header_of(path)
    assert all(torch.equal(weights.read(path).tensors[name], value) for name, value in model.state_dict().items())


def test_the_checksum_depends_on_names_types_shapes_and_values():
    tensors = {"a": torch.arange(4.0), "b": torch.tensor(1)}
    sums = [
        checksum({"x": "1"}, tensor_bytes(changed))
        for changed in (
            tensors,
            {"a": tensors["a"], "c": tensors["b"]},
            {"a": tensors["a"].reshape(2, 2), "b": tensors["b"]},
            {"a": tensors["a"].view(torch.int32), "b": tensors["b"]},
            {"a": tensors["a"] + 1, "b": tensors["b"]},
            {"a": tensors["a"]},
        )
    ]
    assert len({*sums, checksum({"x": "2"}, tensor_bytes(tensors))}) == 7
    assert sums[0] == checksum({"x": "1"}, tensor_bytes(dict(reversed(tensors.items()))))


@pytest.mark.parametrize(
    "changes",
    [
        {"facts": "1"},
        {"facts": "[]"},
        {"facts": '{"miou": []}'},
        {"facts": '{"miou": "high"}'},
        {"facts": '{"miou": true}'},
        {"facts": '{"miou": 1e999}'},
        {"facts": '{"miou": 101}'},
        {"facts": '{"step": 1.5}'},
        {"facts": '{"step": -1}'},
        {"facts": '{"split": 3}'},
        {"facts": '{"converted_from": {}}'},
        {"facts": '{"other": [1]}'},
        {"facts": "[" * 100_000},
        {"made": "[]"},
        {"made": "{}x"},
        {"made": '{"time": 1}'},
        {"made": "[" * 100_000},
        {"dataset": "[" * 100_000},
    ],
)
def test_facts_and_times_that_fastfcn_does_not_write(path: Path, changes: dict):
    rewrite(path, **changes)
    with pytest.raises(WeightsError, match="its header was not written by fastfcn"):
        weights.read(path)


def test_an_undefined_score_is_unknown(path: Path):
    """Earlier versions wrote NaN if no pixel of the split had a label."""
    rewrite(path, facts='{"step": 3, "miou": NaN}')
    assert weights.read(path).facts == {"step": 3}


@pytest.mark.parametrize("change", ["neck.width=100000", "head.width=8000", "head.width=4000000000"])
def test_shapes_are_compared_before_memory_is_taken(path: Path, change: str):
    resource = pytest.importorskip("resource")
    rewrite(path, recipe=tiny_recipe(change).text)
    file, before = weights.read(path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"wrong shape|cannot be built"):
        weights.load_model(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_a_depth_beyond_the_tensors(path: Path):
    rewrite(path, recipe=tiny_recipe("auxiliary.depth=1000000000").text)
    with pytest.raises(WeightsError, match="1000000000 layers"):
        weights.load_model(weights.read(path))


DTYPES = ("bool", "uint8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "float8_e4m3fn")


def test_headers_are_read_and_verified_without_torch(path: Path):
    """Of the same files, with the same checksum, as `weights.read`: every type, also scalars and empty tensors."""
    values = torch.tensor([[0, 1], [3, 2]])
    tensors = {name: values.to(getattr(torch, name)) for name in DTYPES}
    tensors |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
    strings = {key: value for key, value in header_of(path).items() if key != "checksum"}
    weights.write_tensors(path, tensors, strings)
    header, shapes = read_header(path)
    assert shapes == {name: tuple(value.shape) for name, value in sorted(tensors.items())}
    read = weights.read(path)
    assert (header.recipe, header.description, header.facts, header.made) == (
        read.recipe, read.description, read.facts, read.made
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for reader in (read_header, weights.read):
        with pytest.raises(WeightsError, match="wrong checksum"):
            reader(path)
