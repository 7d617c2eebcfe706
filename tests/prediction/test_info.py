"""`fastfcn info` on exported files: what they are, read without their runtime; and on files that are neither."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from fastfcn.errors import WeightsError
from fastfcn.prediction.info import info
from fastfcn.prediction.load import open_model
from fastfcn.prediction.runtimes.metadata import ExportMetadata, parse_metadata
from fastfcn.prediction.runtimes.registry import read_metadata
from fastfcn.weights.file import read
from fastfcn.weights.info import info as weights_info
from tests.helpers import command
from tests.helpers.tiny import tiny_weights

SHARED = ("recipe", "summary", "network", "inference", "dataset", "classes", "score", "published", "made")


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    source = read(tiny_weights(tmp_path_factory.mktemp("info") / "w.safetensors", "eval.resize=[64, 96]"))
    facts = {"miou": 12.5, "split": "val"}
    return ExportMetadata(source.recipe, source.description, True, "int8", (160, 200), facts, source.made).as_strings()


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A protobuf field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def write_onnx(path: Path, metadata: dict[str, str]) -> None:
    """The outer message of an ONNX file: version (1), producer (2), a graph (7) that is skipped, metadata (14)."""
    entries = [field(14, field(1, key.encode()) + field(2, text.encode())) for key, text in metadata.items()]
    path.write_bytes(b"\x08\x09" + field(2, b"test") + field(7, bytes(range(256)) * 300) + b"".join(entries))


def write_openvino(path: Path, metadata: dict[str, str]) -> None:
    text = quoteattr(json.dumps(metadata))
    path.write_text(f"<net><layers/><rt_info><fastfcn><contents value={text}/></fastfcn></rt_info></net>")
    path.with_suffix(".bin").write_bytes(b"x" * 1000)


def write_pt2(path: Path, metadata: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/extra/fastfcn.json", json.dumps(metadata))


WRITERS: dict[str, Callable] = {".onnx": write_onnx, ".xml": write_openvino, ".pt2": write_pt2}


@pytest.mark.parametrize(
    ("suffix", "format", "title"),
    [(".onnx", "onnx", "ONNX Runtime"), (".xml", "openvino", "OpenVINO"), (".pt2", "pt2", "AOTInductor")],
)
def test_an_exported_file_says_what_it_is(
    suffix: str, format: str, title: str, metadata: dict[str, str], weights_file: Path, tmp_path: Path
):
    path = tmp_path / f"model{suffix}"
    WRITERS[suffix](path, metadata)
    content = info(path)
    assert (content["format"], content["runtime"], content["outputs"]) == (format, title, ["labels", "logits"])
    assert (content["precision"], content["largest"]) == ("int8", [160, 200])
    assert content["bytes"] == sum(part.stat().st_size for part in tmp_path.iterdir())
    assert content["inference"]["text"] == "resized to fit 64x96, whole image"
    assert set(SHARED) <= content.keys() & weights_info(weights_file).keys()
    assert content["classes"] == weights_info(weights_file)["classes"]
    done = command.fastfcn("info", path)
    assert done.code == 0, done
    for text in (title, "int8", "up to 160x200", "labels and logits", "resized to fit 64x96", "9 classes", "12.50"):
        assert text in done.out
    assert json.loads(command.fastfcn("info", path, "--json").out) == content


def test_metadata_of_a_file_of_the_onnx_package_are_read(metadata: dict[str, str], tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "model.onnx")
    assert read_metadata(tmp_path / "model.onnx").as_strings() == metadata


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_cut_file_is_an_error(suffix: str, metadata: dict[str, str], tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    WRITERS[suffix](path, metadata)
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            info(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_of_another_program_is_not_called_damaged(suffix: str, tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    WRITERS[suffix](path, {"author": "somebody"})
    done = command.fastfcn("info", path)
    assert done.code == 2
    assert "was not written by `fastfcn export`" in done.err


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("facts", "1"),
        ("facts", '{"miou": []}'),
        ("facts", "[" * 100_000),
        ("made", "[]"),
        ("largest", "7"),
        ("largest", '["a", 2]'),
        ("largest", "[1, 2, 3]"),
        ("outputs", "3"),
        ("dataset", "{}"),
    ],
)
def test_metadata_are_validated(key: str, text: str, metadata: dict[str, str]):
    with pytest.raises(WeightsError, match="was not written by"):
        parse_metadata({**metadata, key: text}, "model.onnx")


def test_files_of_one_export_are_named_if_the_wrong_one_is_given(metadata: dict[str, str], tmp_path: Path):
    write_openvino(tmp_path / "model.xml", metadata)
    for read_file in (info, open_model):
        with pytest.raises(WeightsError, match=r"model\.bin belongs to the exported file .*model\.xml"):
            read_file(tmp_path / "model.bin")
    (tmp_path / "model.bin").unlink()
    with pytest.raises(WeightsError, match=r"missing its weights model\.bin"):
        info(tmp_path / "model.xml")


def test_a_folder_is_called_a_folder(tmp_path: Path):
    done = command.fastfcn("info", tmp_path)
    assert done.code == 2
    assert f"{tmp_path} is a folder" in done.err


def test_torch_is_not_imported(metadata: dict[str, str], weights_file: Path, tmp_path: Path):
    for suffix, write in WRITERS.items():
        write(tmp_path / f"model{suffix}", metadata)
    files = [weights_file, *(tmp_path / f"model{suffix}" for suffix in WRITERS)]
    program = (
        "import sys; from fastfcn.cli import app\n"
        "for file in sys.argv[1:]: app(['info', file], standalone_mode=False)\n"
        "print('imported:', {'torch', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, files)], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("imported: set()")
