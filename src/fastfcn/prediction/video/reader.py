"""Video files and cameras as upright RGB frames with their times, and audio packets."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastfcn.errors import DataError, MissingExtraError

SECOND = 1_000_000  # containers count time in microseconds
FORMATS_WITH_DURATION = ("mov", "matroska", "asf")  # formats whose header states the duration
SLACK = 0.5  # seconds by which audio and frames of an intact file may end before the duration in its header
MP4_SUFFIXES = (".mp4", ".mov", ".m4v", ".3gp")


@dataclass(frozen=True)
class Frame:
    """One upright frame, RGB uint8 (H, W, 3); `pts`: presentation time in units of the video's time base."""

    pixels: np.ndarray
    pts: int


def import_av() -> Any:
    """Import PyAV; raises MissingExtraError if it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError("av", "video", "Reading videos") from error
    return av


class VideoReader:
    """An open video file or camera; a context manager.

    Attributes:
        stream: the video stream.
        audio: the audio streams, whose packets are passed on unchanged.
        rate: mean number of frames per second.
        time_base: seconds per unit of time.
        frames: expected number of frames; None if it is unknown.

    Times start at 0 even if those of the file start later. Raises DataError for a file without a readable video.
    """

    def __init__(self, source: str | Path, format: str | None = None, options: dict[str, str] | None = None):
        self.av, self.source = import_av(), source
        try:
            self.container = self.av.open(str(source), format=format, options=options or {})
        except (self.av.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{source} cannot be read: {_reason(error)}.", _hint(source, error)) from error
        videos = [stream for stream in self.container.streams.video if not _is_cover(stream)]
        if not videos:
            self.container.close()
            raise DataError(f"{source} contains no video.", "Give a file with a video stream.")
        self.stream = videos[0]
        self.stream.thread_type = "AUTO"
        self.audio = tuple(self.container.streams.audio)
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base: Fraction = self.stream.time_base
        self.start = max(0, self.container.start_time or 0)
        self.frames = self._expected_frames()
        self.end = 0.0  # seconds: end of the last packet of any stream
        self.frames_read = self.corrupt_frames = self.corrupt_audio = 0
        self.read_error = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Any]:
        """Frames and audio packets in the order of the file; corrupt ones are left out."""
        last = -1
        for packet in self._packets():
            if packet is not None and packet.stream is not self.stream:
                yield from self._audio_packets(packet)
                continue
            for frame in self._decoded(packet):
                last = max(self._time(frame, last), last + 1)
                self.frames_read += 1
                yield Frame(upright(frame), last)
        if not self.frames_read:
            raise DataError(f"{self.source} cannot be read: none of its frames can be decoded.", _hint(self.source))

    def problem(self) -> str | None:
        """What was missing or corrupt, after everything was read; None for an intact video."""
        problems = [self.read_error] if self.read_error else []
        duration = self._stated_duration()
        if duration and duration - self.end > SLACK + 2 / float(self.rate):
            problems.append(f"it ends after {self.end:.1f} of {duration:.1f} seconds")
        for count, name in ((self.corrupt_frames, "frames"), (self.corrupt_audio, "audio packets")):
            problems += [f"{count} corrupt {name} were skipped"] if count else []
        return "; ".join(problems) or None

    def _stated_duration(self) -> float | None:
        """Seconds stated in the header; None for formats whose duration is estimated from the file's size."""
        name, duration = self.container.format.name, self.container.duration
        if name == "avi":
            return float(self.stream.frames / self.rate)
        return duration / SECOND if duration and name.startswith(FORMATS_WITH_DURATION) else None

    def _expected_frames(self) -> int | None:
        if self.stream.frames:
            return self.stream.frames
        return round(self.container.duration / SECOND * self.rate) if self.container.duration else None

    def _packets(self) -> Iterator[Any]:
        """All packets, then None, which makes the decoder return its remaining frames."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except self.av.FFmpegError as error:
                if not isinstance(error, self.av.EOFError):
                    self.read_error = f"reading stopped at an error: {_reason(error)}"
                break
            if packet.dts is None and not packet.size:
                continue  # PyAV's marker of the end of a stream
            if packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.start / SECOND
                self.end = max(self.end, end)
            yield packet
        yield None

    def _audio_packets(self, packet: Any) -> Iterator[Any]:
        """The packet with its time shifted, if it is intact audio."""
        if packet.stream not in self.audio or packet.dts is None:
            return
        if packet.is_corrupt:
            self.corrupt_audio += 1
        else:
            yield self._shifted(packet)

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = self.stream.decode(packet)
        except self.av.EOFError:
            return []
        except self.av.FFmpegError:
            self.corrupt_frames += 1
            return []
        intact = [frame for frame in frames if not frame.is_corrupt]
        self.corrupt_frames += len(frames) - len(intact)
        return intact

    def _time(self, frame: Any, last: int) -> int:
        """Presentation time of the frame; one frame after the last if the file does not state it."""
        if frame.pts is None:
            return last + round(1 / (self.rate * self.time_base)) if last >= 0 else 0
        return frame.pts - self._shift(self.time_base)

    def _shifted(self, packet: Any) -> Any:
        shift = self._shift(packet.time_base)
        if shift:
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
        return packet

    def _shift(self, time_base: Fraction) -> int:
        return round(Fraction(self.start, SECOND) / time_base)


def upright(frame: Any) -> np.ndarray:
    """The frame as RGB uint8 (H, W, 3), rotated as its metadata says."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def open_camera(name: str) -> VideoReader:
    """Open a camera as an endless video: `webcam` is the first one, `webcam:1` the second.

    Raises DataError if it cannot be opened. Follows the documentation of PyAV and FFmpeg; tested with a video file in
    place of a camera only.
    """
    device, format, options = camera_address(name.partition(":")[2] or "0")
    try:
        return VideoReader(device, format, options)
    except DataError as error:
        raise DataError(
            f"Cannot open the camera {name}: {error.message}",
            "Check that it is connected and not used by another program. webcam is the first one, webcam:1 the second.",
        ) from error


def camera_address(number: str) -> tuple[str, str, dict[str, str]]:
    """Device, format and options that FFmpeg needs to open a camera on this operating system.

    https://ffmpeg.org/ffmpeg-devices.html: v4l2, avfoundation and dshow.
    """
    match sys.platform:
        case "darwin":
            return f"{number}:none", "avfoundation", {"framerate": "30"}
        case "win32" if number.isdigit():
            return f"video={_windows_cameras()[int(number)]}", "dshow", {}
        case "win32":
            return f"video={number}", "dshow", {}
        case _:
            return f"/dev/video{number}", "v4l2", {}


def _windows_cameras() -> list[str]:
    import av.device

    devices = av.device.enumerate_input_devices("dshow")
    names = [device.name for device in devices if "video" in device.media_types]
    return names + [""] * 10  # FFmpeg rejects the empty name of a camera that does not exist


def _is_cover(stream: Any) -> bool:
    """Whether the stream is a cover image instead of a video."""
    return "attached_pic" in str(stream.disposition)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower().rstrip(".")


def _hint(source: str | Path, error: Exception | None = None) -> str:
    if Path(source).suffix.lower() in MP4_SUFFIXES and not isinstance(error, FileNotFoundError):
        return "The file may be incomplete: its index is at the end, and it is unreadable without it. Copy it again."
    return "Check whether another program can play the file."
