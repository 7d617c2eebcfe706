"""Videos are read as far as possible: upright frames with their times; missing parts are reported."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fastfcn.errors import DataError, MissingExtraError
from fastfcn.prediction.video.reader import Frame, VideoReader, import_av
from tests.helpers.synthetic_video import cut, drawing, turn, write_video


def read(path: Path) -> tuple[list[Frame], int, VideoReader]:
    """Frames, the number of audio packets, and the reader at its end."""
    with VideoReader(path) as reader:
        items = list(reader)
        problem = reader.problem()
        reader.problem = lambda: problem  # type: ignore[method-assign]
    frames = [item for item in items if isinstance(item, Frame)]
    return frames, len(items) - len(frames), reader


def test_frames_times_and_sound(video: Path):
    frames, sounds, reader = read(video)
    assert (len(frames), reader.frames, reader.rate) == (200, 200, 25)
    assert [frame.pts * reader.time_base for frame in frames] == [Fraction(index, 25) for index in range(200)]
    assert sounds > 100
    assert reader.problem() is None
    for index in (0, 77, 199):
        assert np.abs(frames[index].pixels.astype(int) - drawing(index)).mean() < 6


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_frames_are_upright(tmp_path: Path, degrees: int):
    path = turn(write_video(tmp_path / "a.mp4", 2, sound=None), degrees)
    frames, _, _ = read(path)
    expected = np.rot90(drawing(0), -degrees // 90)
    assert frames[0].pixels.shape == expected.shape
    assert np.abs(frames[0].pixels.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_truncated_video_is_read_to_its_end(tmp_path: Path, suffix: str):
    sound = "libmp3lame" if suffix == ".avi" else "aac"
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    complete = write_video(tmp_path / f"whole{suffix}", 100, sound=sound, codec=codec)
    assert read(complete)[2].problem() is None
    frames, _, reader = read(cut(complete, tmp_path / f"cut{suffix}"))
    assert 30 < len(frames) < 80
    assert "of 4." in reader.problem()
    for index in (0, len(frames) - 1):
        assert np.abs(frames[index].pixels.astype(int) - drawing(index)).mean() < 8


def test_times_start_at_zero(tmp_path: Path):
    frames, sounds, reader = read(write_video(tmp_path / "a.ts", 30))
    assert reader.start > 0
    first = float(frames[0].pts * reader.time_base)
    assert 0 <= first < 0.2
    assert float(frames[-1].pts * reader.time_base) - first == pytest.approx(29 / 25, abs=1e-4)
    assert sounds
    assert reader.problem() is None


def test_corruption_in_the_middle(tmp_path: Path):
    """In an MP4, whose index stays complete; other formats then just have a gap, as videos may."""
    path = write_video(tmp_path / "a.mp4", 100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 700] = np.random.default_rng(0).bytes(700)
    path.write_bytes(content)
    frames, _, reader = read(path)
    assert reader.corrupt_frames > 0
    assert 80 < len(frames) <= 100 - reader.corrupt_frames
    assert f"{reader.corrupt_frames} corrupt frames were skipped" in reader.problem()


@pytest.mark.parametrize("kind", ["text", "empty", "missing", "sound", "index"])
def test_files_without_video(tmp_path: Path, kind: str):
    path, message = tmp_path / "a.mp4", "cannot be read"
    match kind:
        case "text":
            path.write_text("not a video")
        case "empty":
            path.write_bytes(b"")
        case "sound":
            message = "contains no video"
            sound_alone(path)
        case "index":
            cut(write_video(tmp_path / "b.mp4", 60, index_first=False), path)
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert str(path) in error.value.message
    assert "index" in error.value.hint or kind in ("sound", "missing")


def sound_alone(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_without_pyav(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"fastfcn\[video\]"):
        import_av()
