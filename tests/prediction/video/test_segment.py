"""Segmented videos: audio and frame times are kept, and the frames show the predictions."""

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.errors import DataError
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video import reader as reader_module
from fastfcn.prediction.video.reader import Frame, VideoReader, camera_address, open_camera
from fastfcn.prediction.video.segment import OutputSettings, OverlayPainter, VideoResult, segment
from fastfcn.visualize import overlay
from tests.helpers import command
from tests.helpers.synthetic_video import cut, drawing, frames_of, packets, times, turn, write_video


class Striped:
    """A fake predictor: vertical stripes of classes that move with every frame; counts the frames."""

    def __init__(self, description: object, fail_at: int = -1, error: BaseException | None = None):
        self.description, self.seen, self.fail_at, self.error = description, 0, fail_at, error

    def labels(self, images: np.ndarray) -> np.ndarray:
        if self.seen == self.fail_at:
            assert self.error
            raise self.error
        self.seen += 1
        columns = (np.arange(images.shape[2]) // 16 + self.seen) % 9
        return np.broadcast_to(columns.astype(np.uint8), images.shape[:3]).copy()


@pytest.fixture
def striped(predictor: Predictor) -> Striped:
    return Striped(predictor.description)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "ahead"] == []


def run(predictor: object, source: Path, out: Path, **settings: object) -> VideoResult:
    with VideoReader(source) as reader:
        return segment(predictor, reader, out, OutputSettings(**settings))  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_audio_and_frame_rate_are_kept(video: Path, weights_file: Path, tmp_path: Path):
    """End to end with a network: 200 frames and a sine tone."""
    done = command.fastfcn("predict", weights_file, video, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done
    assert "200 frames" in done.out
    assert "frames/s, reading and writing included" in done.out
    written = tmp_path / "out" / "drive_overlay.mp4"
    assert names(tmp_path / "out") == ["drive_overlay.mp4", "legend.png"]
    assert times(written) == times(video) == [index / 25 for index in range(200)]
    assert packets(written, "audio") == packets(video, "audio")
    with VideoReader(written) as reader:
        assert (reader.frames, reader.rate, reader.container.duration) == (200, 25, 8_000_000)


def test_frames_show_the_predictions(video: Path, predictor: Predictor, tmp_path: Path):
    run(predictor, video, tmp_path / "a_overlay.mp4", labels=True, seconds=0.4)
    before, after = frames_of(video), frames_of(tmp_path / "a_overlay.mp4")
    assert len(after) == 10
    assert names(tmp_path / "a_labels") == [f"{index:06}.png" for index in range(10)]
    for index in (0, 4, 9):
        expected = predictor(before[index])
        with Image.open(tmp_path / "a_labels" / f"{index:06}.png") as stored:
            assert np.array_equal(np.array(stored), expected.labels)  # streets: the ids are the indices
        difference = np.abs(after[index].astype(int) - expected.overlay())
        assert difference.mean() < 14  # of the codec, which halves the color resolution
        # The segmentation maps of other frames differ more: it belongs to the right frame.
        assert difference.mean() < np.abs(after[index].astype(int) - before[index]).mean()


def test_colors_are_kept(video: Path, striped: Striped, tmp_path: Path):
    """With opacity 0, frames are unchanged."""
    run(striped, video, tmp_path / "a_overlay.mp4", opacity=0.0, seconds=0.2)
    for index, frame in enumerate(frames_of(tmp_path / "a_overlay.mp4")):
        assert np.abs(frame.astype(int) - drawing(index)).mean((0, 1)).max() < 6


def test_irregular_times_are_kept(striped: Striped, tmp_path: Path):
    steps = np.random.default_rng(0).integers(8, 120, 60)
    milliseconds = [int(time) for time in np.cumsum(steps) - steps[0]]
    source = write_video(tmp_path / "phone.mp4", 60, times=milliseconds, time_base=Fraction(1, 1000))
    run(striped, source, tmp_path / "a_overlay.mp4")
    assert times(source) == [time / 1000 for time in milliseconds]
    assert times(tmp_path / "a_overlay.mp4") == times(source)
    assert packets(tmp_path / "a_overlay.mp4", "audio") == packets(source, "audio")


def test_rotation_metadata_is_applied(striped: Striped, tmp_path: Path):
    source = turn(write_video(tmp_path / "phone.mov", 3, sound=None), 90)
    run(striped, source, tmp_path / "a_overlay.mov", opacity=0.0)
    written = frames_of(tmp_path / "a_overlay.mov")
    assert written[0].shape == (64, 48, 3)
    assert np.abs(written[0].astype(int) - np.rot90(drawing(0), -1)).mean() < 8
    with VideoReader(tmp_path / "a_overlay.mov") as reader:
        assert next(iter(reader)).pixels.shape == (64, 48, 3)  # and is not rotated twice


def test_odd_sizes_get_a_last_row_and_column(striped: Striped, tmp_path: Path):
    run(striped, write_video(tmp_path / "a.mkv", 3, size=(47, 63)), tmp_path / "a_overlay.mkv", opacity=0.0)
    written = frames_of(tmp_path / "a_overlay.mkv")
    assert written[0].shape == (48, 64, 3)
    assert np.abs(written[0][:47, :63].astype(int) - drawing(0, (47, 63))).mean() < 8


def test_every_third_frame(striped: Striped, video: Path, tmp_path: Path):
    outcome = run(striped, video, tmp_path / "a_overlay.mp4", labels=True, every=3, seconds=0.4)
    assert (outcome.frames, striped.seen) == (10, 4)
    assert outcome.written == (tmp_path / "a_overlay.mp4", tmp_path / "a_labels")
    maps = [(tmp_path / "a_labels" / f"{index:06}.png").read_bytes() for index in range(10)]
    assert [maps.index(map_) for map_ in maps] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_labels_without_overlay(striped: Striped, video: Path, tmp_path: Path):
    run(striped, video, tmp_path / "a_overlay.mp4", overlay=False, labels=True, seconds=0.1)
    assert names(tmp_path) == ["a_labels"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_yields_its_readable_part(weights_file: Path, tmp_path: Path, suffix: str):
    complete = write_video(tmp_path / f"whole{suffix}", 60)
    broken, out = cut(complete, tmp_path / f"cut{suffix}"), tmp_path / "out"
    done = command.fastfcn("predict", weights_file, broken, complete, "--out", out, "--device", "cpu", "--every", 9)
    assert done.code == 1
    assert f"{broken} is incomplete or corrupt: it ends after 1." in done.err
    assert "Traceback" not in done.err
    part = times(out / f"cut_overlay{suffix}")
    assert 20 < len(part) < 50
    before_the_cut = len(part) - 4  # the file stores a frame before those that are shown earlier
    assert part[:before_the_cut] == times(complete)[:before_the_cut]
    assert set(part) <= set(times(complete))
    sound = packets(out / f"cut_overlay{suffix}", "audio")
    assert len(sound) > 10
    assert sound == packets(complete, "audio")[: len(sound)]
    assert times(out / f"whole_overlay{suffix}") == times(complete)  # the other video was processed


def test_an_unreadable_video(weights_file: Path, tmp_path: Path):
    (tmp_path / "a.mp4").write_text("not a video")
    done = command.fastfcn("predict", weights_file, tmp_path / "a.mp4", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 1
    assert f"{tmp_path / 'a.mp4'} cannot be read" in done.err
    assert names(tmp_path / "out") == ["legend.png"]


@pytest.mark.parametrize("error", [DataError("no"), RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("fail_at", [0, 20])
def test_errors_leave_no_files(predictor: Predictor, video: Path, tmp_path: Path, error: BaseException, fail_at: int):
    failing = Striped(predictor.description, fail_at, error)
    with pytest.raises(type(error)):
        run(failing, video, tmp_path / "out" / "a_overlay.mp4")
    assert names(tmp_path / "out") == []


def test_the_painter_equals_visualize_overlay(predictor: Predictor):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    labels = np.kron(generator.integers(0, 9, (8, 12), dtype=np.uint8), np.ones((5, 5), np.uint8))
    labels[:5, :5] = 255
    colors = predictor.description.colors
    for opacity in (0.0, 0.3, 0.5, 1.0):
        painted = OverlayPainter(colors, opacity)(pixels, labels).astype(int)
        assert np.abs(painted - overlay(pixels, labels, colors, opacity)).max() <= 2
    for left_out, outline in (({0}, False), ({0, 2}, True), ((), True)):
        painted = OverlayPainter(colors, 0.4, left_out, outline)(pixels, labels).astype(int)
        assert np.abs(painted - overlay(pixels, labels, colors, 0.4, left_out, outline)).max() <= 2


# Cameras: an endless synthetic video replaces the camera.


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="videos need the extra 'video'")
    drawn = ("testsrc=size=64x48:rate=30", "lavfi", {})
    monkeypatch.setattr(
        reader_module, "camera_address", lambda which: drawn if which == "1" else (f"/dev/none{which}", "v4l2", {})
    )


def test_a_camera_is_recorded(camera: None, weights_file: Path, tmp_path: Path):
    done = command.fastfcn("predict", weights_file, "webcam:1", "--out", tmp_path, "--seconds", 2, "--device", "cpu")
    assert done.code == 0, done
    assert names(tmp_path) == ["legend.png", "webcam_1_overlay.mp4"]
    recorded = times(tmp_path / "webcam_1_overlay.mp4")
    assert recorded == sorted(set(recorded))
    assert 0 < len(recorded) <= 60
    assert recorded[-1] < 2


def test_ctrl_c_ends_a_recording_and_keeps_it(camera: None, predictor: Predictor, tmp_path: Path):
    stopped = Striped(predictor.description, 12, KeyboardInterrupt())
    with open_camera("webcam:1") as reader:
        outcome = segment(stopped, reader, tmp_path / "a.mp4", OutputSettings(), live=True)  # type: ignore[arg-type]
    assert outcome.frames == len(times(tmp_path / "a.mp4")) == 12
    assert outcome.problem is None


def test_a_missing_camera(camera: None, weights_file: Path, tmp_path: Path):
    done = command.fastfcn("predict", weights_file, "webcam", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 2
    assert "Cannot open the camera webcam" in done.err
    assert "webcam:1" in done.err


@pytest.mark.parametrize(
    ("system", "expected"),
    [("linux", ("/dev/video2", "v4l2", {})), ("darwin", ("2:none", "avfoundation", {"framerate": "30"}))],
)
def test_addresses_of_cameras(monkeypatch: pytest.MonkeyPatch, system: str, expected: tuple):
    monkeypatch.setattr(reader_module.sys, "platform", system)
    assert camera_address("2") == expected


def test_frames_are_upright_copies(video: Path):
    """A frame stays valid while the next one is decoded."""
    with VideoReader(video) as reader:
        frames = [item for item, _ in zip(reader, range(8), strict=False) if isinstance(item, Frame)]
    assert len({frame.pixels.tobytes() for frame in frames}) == len(frames)
