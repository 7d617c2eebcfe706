"""Video files with new frames and the frame times and audio of the source."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastfcn.errors import OutputError
from fastfcn.prediction.video.reader import Frame, VideoReader, import_av
from fastfcn.utils.files import replace_file

ENCODERS = ("libx264", "libopenh264", "mpeg4")  # in order of preference
QUALITY = {"libx264": {"crf": "20", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {"qscale": "3"}}
KEPT_SUFFIXES = (".mp4", ".mov", ".mkv")  # other formats become .mkv, which can hold any audio
BT709 = 1


class VideoWriter:
    """Writes `path` under a temporary name, which is renamed if no error occurred; a context manager.

    Frames are stored as H.264 with the reader's times. Players need even sides, so the last row or column is repeated
    if necessary. Audio packets are copied. Raises OutputError if the file cannot be written.
    """

    def __init__(self, path: Path, reader: VideoReader):
        self.path, self.reader, self.av = path, reader, import_av()
        self.stream: Any = None  # created with the first frame, whose size it needs
        self.early_audio: list[Any] = []  # audio packets before the first frame

    def __enter__(self) -> Self:
        self.replacing = replace_file(self.path)
        self.temporary = self.replacing.__enter__()
        self.container = self.av.open(str(self.temporary), "w")
        return self

    def __exit__(self, *error: Any) -> bool | None:
        try:
            if self.stream is not None and not error[0]:
                self._mux(self.stream.encode(None))
            self.container.close()
        except Exception as close_error:
            return self.replacing.__exit__(type(close_error), close_error, close_error.__traceback__)
        return self.replacing.__exit__(*error)

    def write_frame(self, frame: Frame) -> None:
        """Append a frame at its time."""
        height, width = frame.pixels.shape[:2]
        stream = self._start(height, width) if self.stream is None else self.stream
        image = self.av.VideoFrame.from_ndarray(_even(frame.pixels), format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace="ITU709")
        image.pts, image.time_base = frame.pts, self.reader.time_base
        self._mux(stream.encode(image))

    def write_audio(self, packet: Any) -> None:
        """Append an audio packet unchanged."""
        if self.stream is None:
            self.early_audio.append(packet)
            return
        packet.stream = self.copies[packet.stream.index]
        self._mux([packet])

    def _start(self, height: int, width: int) -> Any:
        codec = next(name for name in ENCODERS if name in self.av.codecs_available)
        stream: Any = self.container.add_stream(codec, rate=_even_rate(self.reader.rate), options=QUALITY[codec])
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = self.reader.time_base
        stream.codec_context.colorspace = stream.codec_context.color_primaries = BT709
        self.copies = {}
        for source in self.reader.audio:
            self.copies[source.index] = self.container.add_stream_from_template(source)
        self.stream = stream
        try:
            self.container.start_encoding()
        except self.av.FFmpegError as error:
            raise OutputError(
                f"Cannot write {self.path}: its format cannot hold the video's audio ({error}).",
                "Convert the video to .mkv first: ffmpeg -i VIDEO -c copy VIDEO.mkv",
            ) from error
        for packet in self.early_audio:
            self.write_audio(packet)
        self.early_audio = []
        return stream

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self.container.mux(packet)


def suffix_for(source: Path) -> str:
    """The suffix of the video written for `source`."""
    suffix = source.suffix.lower()
    return suffix if suffix in KEPT_SUFFIXES else ".mp4" if suffix == ".m4v" else ".mkv"


def _even(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return pixels


def _even_rate(rate: Fraction) -> Fraction:
    """A rate whose numerator and denominator encoders accept; frame times do not depend on it."""
    return Fraction(rate).limit_denominator(1001)
