"""The inputs of `predict`: images, videos and cameras, given by name, folder or pattern."""

from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from fastfcn.data.decoding import IMAGE_SUFFIXES
from fastfcn.errors import DataError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".gif"),
)
SUFFIXES = {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}


@dataclass(frozen=True)
class Inputs:
    """Image files, video files, and cameras ("webcam", "webcam:1"), without duplicates and in order."""

    images: list[Path]
    videos: list[Path]
    cameras: list[str]


def find_inputs(arguments: list[str]) -> Inputs:
    """Find files, folders (searched recursively), glob patterns and cameras.

    A file that is named directly counts as an image unless its suffix is that of a video. Raises DataError for an
    argument that matches nothing.
    """
    cameras: dict[str, None] = {}
    paths: dict[Path, None] = {}
    for argument in arguments:
        if is_camera(argument):
            cameras[argument] = None
            continue
        matches = _expand(argument)
        if not matches:
            images = [suffix for suffix in IMAGE_SUFFIXES if suffix not in VIDEO_SUFFIXES]
            raise DataError(
                f"{argument}: no image or video has this name or matches this folder or pattern.",
                f"Images end in {', '.join(images)}; videos in {', '.join(VIDEO_SUFFIXES)}. "
                "Put patterns in quotes: 'photos/*.jpg'.",
            )
        paths |= dict.fromkeys(matches)
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    return Inputs([path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES], videos, list(cameras))


def is_camera(argument: str) -> bool:
    """Whether the argument is `webcam` or `webcam:NUMBER`, and not the name of an existing file."""
    return (argument == "webcam" or argument.startswith("webcam:")) and not Path(argument).exists()


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_file():
        return [path]
    # glob.glob skips hidden files, such as the ._NAME.jpg that macOS creates; Path.glob does not.
    pattern = f"{escape(argument)}/**" if path.is_dir() else argument
    matches = (Path(match) for match in glob(pattern, recursive=True))  # noqa: PTH207
    return sorted(match for match in matches if match.suffix.lower() in SUFFIXES and match.is_file())


def output_names(inputs: list[Path]) -> list[str]:
    """A unique name without suffix for each file: a number is added to names that occur more than once."""
    names, taken = [], {"legend"}
    for path in inputs:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name)
        names.append(name)
    return names
