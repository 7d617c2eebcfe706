"""Videos and cameras with their classes laid over: reading, network and writing each in a thread of its own."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.prediction.prediction import label_image
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.paint import Painter
from fastfcn.prediction.video.reader import Frame, VideoReader
from fastfcn.prediction.video.writer import VideoWriter
from fastfcn.utils.files import make_folder, replace_file
from fastfcn.utils.prefetch import ahead

WAITING = 4  # frames between two stages; of a camera one, so that what is seen is now


@dataclass(frozen=True)
class Settings:
    """What is made of a video: `overlay` (NAME_overlay.mp4), `labels` (NAME_labels/000000.png), or both.

    Of images the class maps are written unless `labels` is False, of videos only where it is True.

    `opacity` (0-1) of the classes; the network sees every `every`-th frame, those between take its class map;
    `seconds`: the end, else that of the video.
    """

    overlay: bool = True
    labels: bool | None = None
    opacity: float = 0.5
    every: int = 1
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How it went: what was written, frames, seconds it took, and what was wrong with the video, if anything."""

    written: tuple[Path, ...]
    frames: int
    seconds: float
    problem: str | None

    @property
    def speed(self) -> float:
        """Frames per second from file to file."""
        return self.frames / max(self.seconds, 1e-9)


def segment(
    predictor: Predictor, reader: VideoReader, out: Path, settings: Settings, live: bool = False,
    progress: Callable[[int, float], None] = lambda frames, speed: None,
) -> Outcome:  # fmt: skip
    """Predict the frames of `reader` and write `out` (a video's path) and, beside it, class maps.

    `progress` is told frames and frames per second from end to end. With `live` frames that come too fast are left
    out, and Ctrl-C ends the recording, which is kept. Raises DataError and OutputError.
    """
    began, frames = time.monotonic(), 0
    painter = Painter(predictor.description.colors, settings.opacity)
    folder = out.with_name(out.stem.removesuffix("_overlay") + "_labels")
    with ExitStack() as open_files:
        predicted = open_files.enter_context(closing(_predicted(predictor, reader, settings, live)))
        writer = open_files.enter_context(VideoWriter(out, reader)) if settings.overlay else None
        if settings.labels:
            make_folder(folder)
        try:
            for item, labels in predicted:
                if labels is None:
                    if writer:
                        writer.sound(item)
                    continue
                if writer:
                    writer.picture(Frame(painter(item.pixels, labels), item.pts))
                if settings.labels:
                    with replace_file(folder / f"{frames:06}.png") as temporary:
                        label_image(labels, predictor.description).save(temporary)
                frames += 1
                progress(frames, frames / (time.monotonic() - began))
        except KeyboardInterrupt:
            if not (live and frames):
                raise
    written = ([out] if writer else []) + ([folder] if settings.labels else [])
    problem = reader.problem() if settings.seconds is None and not live else None
    return Outcome(tuple(written), frames, time.monotonic() - began, problem)


def _predicted(
    predictor: Predictor, reader: VideoReader, settings: Settings, live: bool
) -> Generator[tuple[Any, np.ndarray | None]]:
    """Frames with their class maps, and packets of sound with None, in the order of the file."""
    read = ahead(_until(reader, settings.seconds), 1 if live else WAITING, newest=live)
    return ahead(_with_labels(predictor, read, settings.every), 1 if live else WAITING)


def _until(reader: VideoReader, seconds: float | None) -> Iterator[Any]:
    end = None if seconds is None else seconds / reader.time_base
    for item in reader:
        time_ = item.pts if isinstance(item, Frame) else None
        if end is not None and time_ is not None and time_ >= end:
            return
        yield item


def _with_labels(predictor: Predictor, items: Generator[Any], every: int) -> Iterator[tuple[Any, np.ndarray | None]]:
    labels, count = None, 0
    with closing(items):  # at once: an error keeps this frame alive, and with it the thread that reads
        for item in items:
            if not isinstance(item, Frame):
                yield item, None
                continue
            if labels is None or count % every == 0 or labels.shape != item.pixels.shape[:2]:
                labels = predictor.labels(item.pixels[None])[0]
            count += 1
            yield item, labels
