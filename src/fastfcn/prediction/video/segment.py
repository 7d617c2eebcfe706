"""Segmentation of videos and cameras: reading, network and writing run in parallel, in one thread each."""

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.prediction.prediction import class_indices, label_image
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.reader import Frame, VideoReader
from fastfcn.prediction.video.writer import VideoWriter
from fastfcn.utils.files import make_folder, replace_file
from fastfcn.utils.prefetch import prefetch
from fastfcn.visualize import Color, borders, colorize, line_width, outlined

QUEUE_LENGTH = 4  # frames between two threads; 1 for a camera, so that the newest frame is processed


@dataclass(frozen=True)
class OutputSettings:
    """What `predict` writes.

    Attributes:
        overlay: write NAME_overlay.jpg for an image, NAME_overlay.mp4 for a video.
        labels: write label images: NAME.png for an image, NAME_labels/000000.png, ... for a video. None: for images
            only.
        opacity: of the class colors in overlays, 0 to 1.
        leave_out: names of classes that overlays do not show.
        outline: draw only the edges of the areas.
        every: run the network on every N-th frame of a video; the other frames reuse the last labels.
        seconds: duration to process; None: the whole video.
        formats: what else is written for images: "polygons", "coco", "confidence", "shares".
    """

    overlay: bool = True
    labels: bool | None = None
    opacity: float = 0.5
    leave_out: tuple[str, ...] = ()
    outline: bool = False
    every: int = 1
    seconds: float | None = None
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoResult:
    """Written files and folders, number of frames, processing time in seconds, and what was wrong with the video."""

    written: tuple[Path, ...]
    frames: int
    seconds: float
    problem: str | None

    @property
    def speed(self) -> float:
        """Frames per second, from reading to writing."""
        return self.frames / max(self.seconds, 1e-9)


def segment(
    predictor: Predictor, reader: VideoReader, out: Path, settings: OutputSettings, live: bool = False,
    progress: Callable[[int, float], None] = lambda frames, speed: None,
) -> VideoResult:  # fmt: skip
    """Segment the frames of `reader` and write the video `out` and, next to it, label images.

    `progress` is called with the number of frames and the frames per second. With `live`, frames that arrive too fast
    are dropped, and Ctrl-C ends the recording and keeps it. Raises DataError and OutputError.
    """
    start, frames = time.monotonic(), 0
    left_out = class_indices(predictor.description, settings.leave_out)
    draw_overlay = OverlayPainter(predictor.description.colors, settings.opacity, left_out, settings.outline)
    folder = out.with_name(out.stem.removesuffix("_overlay") + "_labels")
    with ExitStack() as stack:
        predicted = stack.enter_context(closing(_predicted(predictor, reader, settings, live)))
        writer = stack.enter_context(VideoWriter(out, reader)) if settings.overlay else None
        if settings.labels:
            make_folder(folder)
        try:
            for item, labels in predicted:
                if labels is None:
                    if writer:
                        writer.write_audio(item)
                    continue
                if writer:
                    writer.write_frame(Frame(draw_overlay(item.pixels, labels), item.pts))
                if settings.labels:
                    with replace_file(folder / f"{frames:06}.png") as temporary:
                        label_image(labels, predictor.description).save(temporary)
                frames += 1
                progress(frames, frames / (time.monotonic() - start))
        except KeyboardInterrupt:
            if not (live and frames):
                raise
    written = ([out] if writer else []) + ([folder] if settings.labels else [])
    problem = reader.problem() if settings.seconds is None and not live else None
    return VideoResult(tuple(written), frames, time.monotonic() - start, problem)


def _predicted(
    predictor: Predictor, reader: VideoReader, settings: OutputSettings, live: bool
) -> Generator[tuple[Any, np.ndarray | None]]:
    """Frames with their labels, and audio packets with None, in the order of the file."""
    length = 1 if live else QUEUE_LENGTH
    items = prefetch(_until(reader, settings.seconds), length, newest=live)
    return prefetch(_with_labels(predictor, items, settings.every), length)


def _until(reader: VideoReader, seconds: float | None) -> Iterator[Any]:
    end = None if seconds is None else seconds / reader.time_base
    for item in reader:
        if end is not None and isinstance(item, Frame) and item.pts >= end:
            return
        yield item


def _with_labels(predictor: Predictor, items: Generator[Any], every: int) -> Iterator[tuple[Any, np.ndarray | None]]:
    labels, count = None, 0
    # Close the generator at once: the traceback of an error keeps this frame alive, and with it the reading thread.
    with closing(items):
        for item in items:
            if not isinstance(item, Frame):
                yield item, None
                continue
            if labels is None or count % every == 0 or labels.shape != item.pixels.shape[:2]:
                labels = predictor.labels(item.pixels[None])[0]
            count += 1
            yield item, labels


class OverlayPainter:
    """A fast integer version of `visualize.overlay`, from which it differs by at most 2 levels of 255."""

    def __init__(self, colors: Sequence[Color], opacity: float, leave_out: Collection[int] = (), outline: bool = False):
        """`opacity`: of the class colors, 0 to 1; `leave_out`: classes that show the image; `outline`: only edges."""
        self.colors, self.outline = colors, outline
        self.left_out = np.isin(np.arange(256), list(leave_out))
        border_opacity = round(255 * 0.55 * min(1.0, 2 * opacity))
        levels = np.arange(256)
        self.dimmed = np.rint(levels * (1 - opacity)).astype(np.uint8)
        self.class_colors = np.floor(colorize(levels, colors) * opacity).astype(np.uint8)
        self.brightened = np.rint(levels + (255 - levels) * border_opacity / 255).astype(np.uint8)

    def __call__(self, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """RGB uint8 (H, W, 3) of a frame (H, W, 3) and its labels (H, W)."""
        hidden = self.left_out[labels] if self.left_out.any() else None
        areas = labels if hidden is None else np.where(hidden, np.int16(-1), labels)
        if self.outline:
            return outlined(pixels, labels, areas, self.colors)
        mixed = self.dimmed[pixels]
        mixed += self.class_colors[labels]
        if hidden is not None:
            mixed[hidden] = pixels[hidden]
        border = borders(areas, line_width(labels))
        mixed[border] = self.brightened[mixed[border]]
        return mixed
