"""A video with new pictures and the old one's times and sound."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastfcn.errors import OutputError
from fastfcn.prediction.video.reader import Frame, VideoReader, import_av
from fastfcn.utils.files import replace_file

ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that is there
QUALITY = {"libx264": {"crf": "20", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {"qscale": "3"}}
KEPT = (".mp4", ".mov", ".mkv")  # other kinds become .mkv, which holds any sound
BT709 = 1


class VideoWriter:
    """Writes `path` under a temporary name, which becomes `path` at a clean end; a context manager.

    Frames are stored as H.264 with the reader's times. Sides are made even, as players need it: the last row or
    column is repeated. Sound is copied, packet by packet. Raises OutputError where the file cannot be written.
    """

    def __init__(self, path: Path, reader: VideoReader):
        self.path, self.reader, self.av = path, reader, import_av()
        self.stream: Any = None  # not there before the first picture
        self.early: list[Any] = []  # sound that comes before the first picture, whose size is not known yet

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
        except Exception as another:
            return self.replacing.__exit__(type(another), another, another.__traceback__)
        return self.replacing.__exit__(*error)

    def picture(self, frame: Frame) -> None:
        """Append a picture at its time."""
        height, width = frame.pixels.shape[:2]
        stream = self._begin(height, width) if self.stream is None else self.stream
        image = self.av.VideoFrame.from_ndarray(_even(frame.pixels), format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace="ITU709")
        image.pts, image.time_base = frame.pts, self.reader.time_base
        self._mux(stream.encode(image))

    def sound(self, packet: Any) -> None:
        """Append a packet of sound as it is."""
        if self.stream is None:
            self.early.append(packet)
            return
        packet.stream = self.copies[packet.stream.index]
        self._mux([packet])

    def _begin(self, height: int, width: int) -> Any:
        codec = next(name for name in ENCODERS if name in self.av.codecs_available)
        stream: Any = self.container.add_stream(codec, rate=_even_rate(self.reader.rate), options=QUALITY[codec])
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = self.reader.time_base
        stream.codec_context.colorspace = stream.codec_context.color_primaries = BT709
        self.copies = {}
        for each in self.reader.sounds:
            self.copies[each.index] = self.container.add_stream_from_template(each)
        self.stream = stream
        try:
            self.container.start_encoding()
        except self.av.FFmpegError as error:
            raise OutputError(
                f"Cannot write {self.path}: a file of this kind cannot hold the video's sound ({error}).",
                "Put the video into an .mkv file first: ffmpeg -i VIDEO -c copy VIDEO.mkv",
            ) from error
        for packet in self.early:
            self.sound(packet)
        self.early = []
        return stream

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self.container.mux(packet)


def suffix_for(source: Path) -> str:
    """The suffix of the video made of `source`."""
    suffix = source.suffix.lower()
    return suffix if suffix in KEPT else ".mp4" if suffix == ".m4v" else ".mkv"


def _even(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return pixels


def _even_rate(rate: Fraction) -> Fraction:
    """A rate whose parts encoders can hold; times do not depend on it."""
    return Fraction(rate).limit_denominator(1001)
