"""A video as upright RGB frames with their times, and packets of sound, as far as it can be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastfcn.errors import DataError, MissingExtraError

SECOND = 1_000_000  # a container's times are in microseconds
TELL_THEIR_LENGTH = ("mov", "matroska", "asf")  # formats whose header says how long the video is
SLACK = 0.5  # seconds that sound and picture may end before the length in the header in a whole file


@dataclass(frozen=True)
class Frame:
    """One picture, RGB uint8 (H, W, 3), upright; `pts`: when it is shown, in units of the video's time base."""

    pixels: np.ndarray
    pts: int


def import_av() -> Any:
    """PyAV; raises MissingExtraError without it."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError("av", "video", "Reading videos") from error
    return av


class VideoReader:
    """An open video file or camera; a context manager.

    `stream`: the video, `sounds`: streams whose packets come as they are, `rate`: mean frames per second,
    `time_base`: seconds in a unit of time, `frames`: how many are to be expected, None where nobody knows. Times
    begin at 0 where the file's begin later. Raises DataError for a file of which nothing can be read.
    """

    def __init__(self, source: str | Path, form: str | None = None, options: dict[str, str] | None = None):
        self.av, self.source = import_av(), source
        try:
            self.container = self.av.open(str(source), format=form, options=options or {})
        except (self.av.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{source} cannot be read: {_reason(error)}.", _advice(source, error)) from error
        pictures = [each for each in self.container.streams.video if not _is_cover(each)]
        if not pictures:
            self.container.close()
            raise DataError(f"{source} holds no video.", "Name a file with pictures in it.")
        self.stream = pictures[0]
        self.stream.thread_type = "AUTO"
        self.sounds = tuple(self.container.streams.audio)
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base: Fraction = self.stream.time_base
        self.start = max(0, self.container.start_time or 0)
        self.frames = self._expected()
        self.reached = 0.0  # seconds: the end of the last packet of any stream
        self.read = self.damaged = self.muted = 0
        self.stopped_by = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Any]:
        """Frames, and packets of sound in between, in the order of the file; damaged pictures are left out."""
        last = -1
        for packet in self._packets():
            if packet is not None and packet.stream is not self.stream:
                if packet.stream in self.sounds and packet.dts is not None:
                    if packet.is_corrupt:
                        self.muted += 1
                    else:
                        yield self._moved(packet)
                continue
            for frame in self._decoded(packet):
                last = max(self._time(frame, last), last + 1)
                self.read += 1
                yield Frame(upright(frame), last)
        if not self.read:
            raise DataError(f"{self.source} cannot be read: no picture in it can be decoded.", _advice(self.source))

    def problem(self) -> str | None:
        """What was missing, once all has been read; None for a whole video."""
        found = [self.stopped_by] if self.stopped_by else []
        told = self._told()
        if told and told - self.reached > SLACK + 2 / float(self.rate):
            found.append(f"it ends after {self.reached:.1f} of {told:.1f} seconds")
        for count, what in ((self.damaged, "pictures"), (self.muted, "pieces of its sound")):
            found += [f"{count} damaged {what} are left out"] if count else []
        return "; ".join(found) or None

    def _told(self) -> float | None:
        """Seconds that the header promises; None for kinds whose length is estimated from what is there."""
        kind, duration = self.container.format.name, self.container.duration
        if kind == "avi":
            return float(self.stream.frames / self.rate)
        return duration / SECOND if duration and kind.startswith(TELL_THEIR_LENGTH) else None

    def _expected(self) -> int | None:
        if self.stream.frames:
            return self.stream.frames
        return round(self.container.duration / SECOND * self.rate) if self.container.duration else None

    def _packets(self) -> Iterator[Any]:
        """All packets, then None: what the decoder still holds is asked for at the end."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except self.av.FFmpegError as error:
                if not isinstance(error, self.av.EOFError):
                    self.stopped_by = f"its reading stops at an error: {_reason(error)}"
                break
            if packet.dts is None and not packet.size:
                continue  # the container's own mark of an end
            if packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.start / SECOND
                self.reached = max(self.reached, end)
            yield packet
        yield None

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = self.stream.decode(packet)
        except self.av.EOFError:
            return []
        except self.av.FFmpegError:
            self.damaged += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self.damaged += len(frames) - len(whole)
        return whole

    def _time(self, frame: Any, last: int) -> int:
        """When the frame is shown; right after the last one where the file does not say."""
        if frame.pts is None:
            return last + round(1 / (self.rate * self.time_base)) if last >= 0 else 0
        return frame.pts - self._shift(self.time_base)

    def _moved(self, packet: Any) -> Any:
        shift = self._shift(packet.time_base)
        if shift:
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
        return packet

    def _shift(self, time_base: Fraction) -> int:
        return round(Fraction(self.start, SECOND) / time_base)


def upright(frame: Any) -> np.ndarray:
    """The frame as RGB uint8 (H, W, 3), turned as its metadata says: phones film lying and note which way is up."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _is_cover(stream: Any) -> bool:
    """Whether it is the picture of an album rather than a video."""
    return "attached_pic" in str(stream.disposition)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower().rstrip(".")


def _advice(source: str | Path, error: Exception | None = None) -> str:
    if Path(source).suffix.lower() in (".mp4", ".mov", ".m4v", ".3gp") and not isinstance(error, FileNotFoundError):
        return "Copy the file again: this kind keeps its index at the end, and without it nothing can be read."
    return "Check the file: does another program play it?"
