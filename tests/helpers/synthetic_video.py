"""A synthetic video with a sine tone, and the contents of video files: times, audio, frames."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SOUND_RATE = 16000  # samples per second
TURNED = {  # the display matrix of an MP4's track, as phones write it
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),  # rotation to the right, in degrees
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def drawing(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Frame number `index`: red left of a moving line, brighter in the upper half."""
    pixels = np.full((*size, 3), (40, 70, 110), np.uint8)
    pixels[:, : 4 + 2 * index % (size[1] - 8)] = (190, 60, 40)
    pixels[: size[0] // 2] += 50
    return pixels


def write_video(
    path: Path, frames: int = 200, rate: int = 25, size: tuple[int, int] = (48, 64), times: Sequence[int] | None = None,
    time_base: Fraction | None = None, sound: str | None = "aac", codec: str = "libx264", index_first: bool = True,
) -> Path:  # fmt: skip
    """`times` in units of `time_base`; else a frame every 1/`rate` seconds."""
    av = pytest.importorskip("av", reason="videos need the extra 'video'")
    mp4 = path.suffix in (".mp4", ".mov")
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first and mp4 else {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size[1], size[0]
        stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        base = time_base or Fraction(1, rate)
        stream.time_base = stream.codec_context.time_base = base
        sounds = container.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        written = 0
        for index in range(frames):
            pts = times[index] if times else index
            frame = av.VideoFrame.from_ndarray(drawing(index, size), format="rgb24")
            frame.pts, frame.time_base = pts, base
            container.mux(stream.encode(frame))
            while sounds and written < pts * base * SOUND_RATE + 1:
                container.mux(sounds.encode(_sine(av, written)))
                written += 1024
        container.mux(stream.encode(None))
        if sounds:
            container.mux(sounds.encode(None))
    return path


def _sine(av: Any, start: int) -> Any:
    wave = 0.3 * np.sin(2 * np.pi * 440 * (start + np.arange(1024)) / SOUND_RATE)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    frame.rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
    return frame


def turn(path: Path, degrees: int) -> Path:
    """Set the rotation of an MP4 with one track: so many degrees to the right."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16  # type, version and flags, times and number, room and volume
    a, b, c, d = (value * 0x10000 for value in TURNED[degrees])
    content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    return path


def cut(path: Path, out: Path, share: float = 0.6) -> Path:
    """The first part of a file."""
    content = path.read_bytes()
    out.write_bytes(content[: round(len(content) * share)])
    return out


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Time in seconds and content of each packet of the first stream of `kind`, "video" or "audio", by time."""
    import av

    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        timed = [packet for packet in container.demux(stream) if packet.size]
        return sorted((float(packet.pts * packet.time_base), bytes(packet)) for packet in timed)


def times(path: Path) -> list[float]:
    """The presentation time of each frame in seconds."""
    return [time for time, _ in packets(path, "video")]


def frames_of(path: Path) -> list[np.ndarray]:
    """All frames, RGB."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
