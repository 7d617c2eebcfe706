"""`predict` on files: finding inputs, written outputs, and errors that do not stop the other images."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.prediction import job
from fastfcn.prediction.image_files import save_legend
from fastfcn.prediction.inputs import Inputs, find_inputs, output_names
from fastfcn.prediction.job import PredictionJob
from fastfcn.prediction.load import load
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.segment import OutputSettings
from tests.helpers import command
from tests.helpers.tiny import picture, save_picture


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def find_images(patterns: list[str]) -> list[Path]:
    return find_inputs(patterns).images


def predict(predictor: Predictor, images: list[Path], out: Path, **settings: object) -> list:
    """Images as in `fastfcn predict`."""
    run = PredictionJob(Inputs(images, [], []), out, OutputSettings(**settings))  # type: ignore[arg-type]
    save_legend(predictor.description, run.folder)
    return list(run.predict_images(predictor))


def test_files_folders_and_patterns(tmp_path: Path):
    for name in ("b.jpg", "a.png", "deep/er/c.JPEG", "deep/d.tif", "._b.jpg", "deep/.hidden.png"):
        save_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    everything = [tmp_path / name for name in ("a.png", "b.jpg", "deep/d.tif", "deep/er/c.JPEG")]
    assert find_images([str(tmp_path)]) == everything
    assert find_images([f"{tmp_path}/*"]) == everything[:2]
    assert find_images([f"{tmp_path}/**/*.[Jj]*"]) == [everything[1], everything[3]]
    assert find_images([f"{tmp_path}/?.png", str(tmp_path / "b.jpg")]) == everything[:2]
    assert find_images([str(tmp_path / "b.jpg"), str(tmp_path)]) == [everything[1], *everything[:1], *everything[2:]]
    assert find_images([str(tmp_path / "notes.txt")]) == [tmp_path / "notes.txt"]  # named explicitly, so it is tried


def test_every_image_format_of_the_dataset_check_is_found(tmp_path: Path):
    for suffix in (".ppm", ".gif", ".webp", ".JPE"):
        (tmp_path / f"a{suffix}").write_bytes(b"")
    inputs = find_inputs([str(tmp_path)])
    assert inputs.images == sorted(tmp_path / name for name in ("a.JPE", "a.ppm", "a.webp"))
    assert inputs.videos == [tmp_path / "a.gif"]


def test_formats_that_cannot_be_read_are_reported(tmp_path: Path, weights_file: Path):
    """Photos of phones, for example; they would be missing without a word."""
    for name in ("a.heic", "sub/b.HEIC", "c.cr2", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    inputs = find_inputs([str(tmp_path / "in"), str(tmp_path / "in/*")])
    assert inputs.images == []
    assert [problem.message for problem in inputs.problems] == [
        f"{tmp_path / 'in/a.heic'} and other files of formats that cannot be read were skipped: 2 .heic, 1 .cr2."
    ]
    save_picture(tmp_path / "in/d.png")
    done = command.fastfcn("predict", weights_file, tmp_path / "in", "--out", tmp_path / "out")
    assert done.code == 1
    assert "1 of 1 images" in done.out
    assert done.err.count("were skipped: 2 .heic, 1 .cr2.") == 1


def test_patterns_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_picture(tmp_path / "photos" / "a.png")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find_images(["../photos/*.png"]) == [Path("../photos/a.png")]
    monkeypatch.chdir(tmp_path)
    assert find_images(["photos", "./photos/a.png", "photos/*"]) == [Path("photos/a.png")]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """photos/a.png, photos/deep/b.png, other/c.png, and links to themselves, to each other and to parent folders."""
    for name in ("photos/a.png", "photos/deep/b.png", "other/c.png", "d.png"):
        save_picture(tmp_path / name)
    photos = tmp_path / "photos"
    for name, target in {
        "loop": ".", "up": "..", "up_again": "..", "deep/back": "..", "deep/self": ".", "deep/top": "../..",
        "again": "deep", "else": "../other", "else_again": "../other", "../other/back": "../photos",
    }.items():  # fmt: skip
        (photos / name).symlink_to(target)
    (photos / "link.png").symlink_to("a.png")
    return photos


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.png", "/**/[a-z]*.p?g", "/../photos/**"])
def test_each_folder_is_searched_once_and_none_above(linked: Path, pattern: str):
    """Links to the folder itself, or two links to its parent, would otherwise never end."""
    below = Path(f"{linked}{pattern.removesuffix('/**')}") if pattern.endswith("photos/**") else linked
    expected = [below / name for name in ("a.png", "deep/b.png", "else/c.png", "link.png")]
    assert find_images([f"{linked}{pattern}"]) == expected


def test_two_recursive_parts_in_a_pattern(linked: Path):
    assert find_images([f"{linked.parent}/**/deep/**/*.png"]) == [linked / "deep/b.png"]
    assert find_images([f"{linked}/*/**/b.png"])[0] == linked / "again/b.png"


def test_a_link_to_a_folder_is_searched_like_the_folder(linked: Path):
    (linked.parent / "link").symlink_to("photos")
    assert [path.name for path in find_images([str(linked.parent / "link")])] == ["a.png", "b.png", "c.png", "link.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_not_a_regular_file_is_reported_and_skipped(tmp_path: Path):
    save_picture(tmp_path / "a.png")
    for name in ("b.png", "c.mp4"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "d.jpg").symlink_to("nothing.jpg")
    (tmp_path / "e.jpg").symlink_to("e.jpg")
    os.mkfifo(tmp_path / "notes.txt")
    for patterns in ([str(tmp_path)], [f"{tmp_path}/*"], [f"{tmp_path}/**"]):
        inputs = find_inputs(patterns)
        assert (inputs.images, inputs.videos) == ([tmp_path / "a.png"], [])
        words = {"b.png": "FIFO", "c.mp4": "FIFO", "d.jpg": "does not exist", "e.jpg": "does not exist"}
        for problem, (name, reason) in zip(inputs.problems, words.items(), strict=True):
            assert str(tmp_path / name) in problem.message
            assert reason in problem.message
    named = find_inputs([str(tmp_path / "b.png"), "/dev/null", str(tmp_path / "a.png")])
    assert named.images == [tmp_path / "a.png"]
    assert len(named.problems) == 2


@pytest.mark.parametrize(("longest", "overlay"), [(243, True), (251, False)])
def test_the_longest_names(predictor: Predictor, tmp_path: Path, longest: int, overlay: bool):
    """NAME_overlay.jpg may have 255 characters. Images with longer names are reported and skipped."""
    images = [save_picture(tmp_path / f"{name}.png") for name in ("m" * longest, "n" * 251, "z")]
    first, second, third = predict(predictor, images, tmp_path / "out", overlay=overlay)
    assert first is None
    assert third is None
    written = names(tmp_path / "out")
    assert {f"{'m' * longest}.png", "z.png"} < set(written)
    assert any(name.startswith("n") for name in written) == (not overlay)
    assert not any(name.startswith(".") for name in written)
    if overlay:
        assert isinstance(second, DataError)
        assert "name too long" in second.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_the_command_reports_what_it_skips(weights_file: Path, tmp_path: Path):
    folder = tmp_path / "in"
    save_picture(folder / f"{'m' * 246}.png")
    save_picture(folder / "z.png")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "fifo.png")
    done = command.fastfcn("predict", weights_file, folder, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 1
    assert "Segmented 1 of 2 images" in done.out
    assert "fifo.png was skipped" in done.err
    assert f"{'m' * 246}.png was skipped: file name too long" in done.err
    assert names(tmp_path / "out") == ["legend.png", "manifest.jsonl", "z.png", "z_overlay.jpg"]


def test_names_with_pattern_characters(tmp_path: Path):
    odd = save_picture(tmp_path / "set [1]" / "a[2]*.png")
    assert find_images([str(odd)]) == [odd]
    assert find_images([str(odd.parent)]) == [odd]


@pytest.mark.parametrize("pattern", ["missing.jpg", "*.jpg", "empty", "a**b", "missing/**"])
def test_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="no image or video has this name or matches this folder or pattern") as error:
        find_images(["a.png", pattern])
    assert error.value.message.startswith(pattern)
    assert ".jpg" in error.value.hint


def test_videos_and_cameras_are_separated_from_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("b.jpg", "a.MP4", "deep/c.mkv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    patterns = ["webcam:1", ".", "webcam", "a.MP4", "webcam"]
    assert find_inputs(patterns) == Inputs([Path("b.jpg")], [Path("a.MP4"), Path("deep/c.mkv")], ["webcam:1", "webcam"])
    (tmp_path / "webcam").mkdir()
    save_picture(tmp_path / "webcam" / "a.png")
    assert find_inputs(["webcam"]) == Inputs([Path("webcam/a.png")], [], [])  # a folder of that name


def test_output_names_are_unique():
    patterns = ["x/a.jpg", "y/a.jpg", "y/a.png", "a_2.jpg", "b.jpg", "legend.jpg"]
    assert output_names([Path(path) for path in patterns]) == ["a", "a_2", "a_3", "a_2_2", "b", "legend_2"]


def test_output_names_are_unique_on_every_file_system():
    """Windows and macOS would write A.png over a.png."""
    paths = [Path(path) for path in ("x/a.jpg", "y/A.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg", "Legend.png")]
    assert output_names(paths) == ["a", "A_2", "caf\u00e9", "cafe\u0301_2", "Legend_2"]


def test_label_images_and_overlays_are_written(predictor: Predictor, tmp_path: Path):
    images = [save_picture(tmp_path / "x" / "a.png"), save_picture(tmp_path / "y" / "a.jpg", picture(33, 65, seed=1))]
    assert predict(predictor, images, tmp_path / "out") == [None, None]
    assert names(tmp_path / "out") == ["a.png", "a_2.png", "a_2_overlay.jpg", "a_overlay.jpg", "legend.png"]
    for image, name in zip(images, ("a", "a_2"), strict=True):
        prediction = predictor(image)
        with Image.open(tmp_path / "out" / f"{name}.png") as written:
            assert np.array_equal(np.array(written), prediction.labels)  # streets: the ids are the indices
            assert np.array_equal(np.array(written.convert("RGB")), prediction.colors)
        with Image.open(tmp_path / "out" / f"{name}_overlay.jpg") as written:
            overlay = np.array(written).astype(int)
        assert np.abs(overlay - prediction.overlay()).mean() < 8  # JPEG
    with Image.open(tmp_path / "out" / "legend.png") as legend:
        assert legend.size > (50, 50)


def broken(path: Path, kind: str) -> Path:
    save_picture(path)
    match kind:
        case "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not an image")
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
def test_a_broken_image_is_reported_and_the_others_are_processed(
    predictor: Predictor, tmp_path: Path, kind: str, suffix: str
):
    images = [save_picture(tmp_path / "a.png"), broken(tmp_path / f"b{suffix}", kind), save_picture(tmp_path / "c.png")]
    first, error, last = predict(predictor, images, tmp_path / "out")
    assert first is None
    assert last is None
    assert isinstance(error, DataError)
    assert str(images[1]) in error.message
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "c.png", "c_overlay.jpg", "legend.png"]


@pytest.mark.parametrize("name", ["a.png", "b_overlay.jpg", "legend.png"])
def test_inputs_are_never_overwritten(predictor: Predictor, tmp_path: Path, name: str):
    """The segmentation map of a.png is also named a.png: in the same folder it would replace the image."""
    images = sorted([save_picture(tmp_path / name), save_picture(tmp_path / "b.tif")])
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match=f"{name} would be overwritten"):
        predict(predictor, images, tmp_path / "." / "below" / "..")
    assert (tmp_path / name).read_bytes() == before
    assert [name for name in names(tmp_path) if name != "below"] == sorted([name, "b.tif"])


def test_only_selected_outputs_are_written(predictor: Predictor, tmp_path: Path):
    image = save_picture(tmp_path / "a.png")
    predict(predictor, [image], tmp_path / "overlays", opacity=1.0)
    with Image.open(tmp_path / "overlays" / "a_overlay.jpg") as written:
        painted = predictor(image)
        assert np.abs(np.array(written).astype(int) - painted.overlay(1.0)).mean() < 8
        assert np.abs(np.array(written).astype(int) - painted.overlay(0.2)).mean() > 8


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        (("--no-labels",), ["a_overlay.jpg"]),
        (("--no-overlay",), ["a.png"]),
        (("--labels",), ["a.png", "a_overlay.jpg"]),
    ],
)
def test_flags_select_the_outputs(weights_file: Path, tmp_path: Path, flags: tuple, written: list[str]):
    image, out = save_picture(tmp_path / "a.png"), tmp_path / "out"
    done = command.fastfcn("predict", weights_file, image, "--out", out, "--device", "cpu", *flags)
    assert done.code == 0, done
    assert names(out) == [*written, "legend.png", "manifest.jsonl"]


def test_nothing_to_write(weights_file: Path, tmp_path: Path):
    image, out = save_picture(tmp_path / "a.png"), tmp_path / "out"
    done = command.fastfcn("predict", weights_file, image, "--out", out, "--no-labels", "--no-overlay")
    assert done.code == 2
    assert "Nothing would be written" in done.err
    assert not out.exists()


def test_an_output_that_cannot_be_written(predictor: Predictor, tmp_path: Path):
    image = save_picture(tmp_path / "a.png")
    with pytest.raises(OutputError):
        predict(predictor, [image], image / "out")


def test_the_command(weights_file: Path, tmp_path: Path):
    save_picture(tmp_path / "photos" / "a.png")
    done = command.fastfcn("predict", weights_file, tmp_path / "photos", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0
    assert "1 of 1 images" in done.out
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "legend.png", "manifest.jsonl"]


def test_the_exit_code_is_1_if_an_image_was_skipped(weights_file: Path, tmp_path: Path):
    save_picture(tmp_path / "photos" / "a.png")
    broken(tmp_path / "photos" / "b.png", "truncated")
    done = command.fastfcn("predict", weights_file, tmp_path / "photos", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 1
    assert "1 of 2 images" in done.out
    assert f"{tmp_path / 'photos' / 'b.png'} cannot be read" in done.err
    assert "Traceback" not in done.err
    assert names(tmp_path / "out") == ["a.png", "a_overlay.jpg", "legend.png", "manifest.jsonl"]


def test_overlays_without_some_classes(weights_file, tmp_path):
    """`--leave-out` shows the image there, `--outline` everywhere but at edges; a wrong name is reported first."""
    image, out = tmp_path / "a.png", tmp_path / "out"
    pixels = picture(48, 64, 3)
    Image.fromarray(pixels).save(image)
    predictor = load(weights_file, "cpu")
    names = predictor.classes
    done = command.fastfcn("predict", weights_file, image, "--out", out, "--device", "cpu", "--leave-out", "nosuch")
    assert done.code == 2
    assert "no class 'nosuch'" in done.err.lower()
    assert names[0] in done.err
    assert not out.exists()
    done = command.fastfcn(
        "predict", weights_file, image, "--out", out, "--device", "cpu", "--leave-out", ",".join(names)
    )
    assert done.code == 0, done.err
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=92)
    assert (out / "a_overlay.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    prediction = predictor(pixels)
    assert np.array_equal(prediction.overlay(leave_out=names), pixels)
    assert np.array_equal(prediction.overlay(leave_out=names, outline=True), pixels)
    assert not np.array_equal(prediction.overlay(), pixels)
    with pytest.raises(UserError, match="There is no class 'sky '"):
        prediction.overlay(leave_out=["sky "])


def test_threads_write_the_same_files(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As next to a GPU: in order, and a file that cannot be read stops no other."""
    images = [save_picture(tmp_path / "in" / f"{number}.png", picture(seed=number)) for number in range(7)]
    images[3].write_bytes(b"not an image")
    written = []
    for threads in (1, 3):
        monkeypatch.setattr(job, "file_threads", lambda predict, threads=threads: threads)
        out = tmp_path / str(threads)
        problems = predict(predictor, images, out)
        assert [type(problem) for problem in problems] == [type(None)] * 3 + [DataError] + [type(None)] * 3
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 13


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", job.MAX_FILE_THREADS)])
def test_only_next_to_a_gpu_several_threads_read_and_write(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, device: str, threads: int
):
    monkeypatch.setattr(job.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(predictor, "device", torch.device(device))
    assert job.file_threads(predictor) == threads
