"""What `predict` is given: images, videos and cameras, by name, folder or pattern."""

from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from fastfcn.errors import DataError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".gif"),
)


@dataclass(frozen=True)
class Inputs:
    """Image files, video files, and cameras ("webcam", "webcam:1"), each once and in order."""

    images: list[Path]
    videos: list[Path]
    cameras: list[str]


def find_inputs(given: list[str]) -> Inputs:
    """Sort out files, folders (searched to the bottom), glob patterns and cameras.

    A file that is named is taken for an image unless its suffix is a video's. Raises DataError for what is nothing
    of these.
    """
    cameras = [each for each in given if is_camera(each)]
    found: dict[Path, None] = {}
    for each in given:
        if is_camera(each):
            continue
        matches = _expand(each)
        if not matches:
            raise DataError(
                f"{each}: there is no image or video of that name, folder or pattern.",
                f"Images end in {', '.join(IMAGES)}; videos in {', '.join(VIDEOS)}; quote patterns: 'photos/*.jpg'.",
            )
        found |= dict.fromkeys(matches)
    videos = [path for path in found if path.suffix.lower() in VIDEOS]
    return Inputs([path for path in found if path.suffix.lower() not in VIDEOS], videos, list(dict.fromkeys(cameras)))


def is_camera(given: str) -> bool:
    """Whether it is `webcam` or `webcam:WHICH`, and no file of that name lies here."""
    return (given == "webcam" or given.startswith("webcam:")) and not Path(given).exists()


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.is_file():
        return [path]
    # Not Path.glob, which also finds hidden files, such as the ._NAME.jpg that macOS leaves.
    pattern = f"{escape(given)}/**" if path.is_dir() else given
    found = (Path(each) for each in glob(pattern, recursive=True))  # noqa: PTH207
    return sorted(each for each in found if each.suffix.lower() in (*IMAGES, *VIDEOS) and each.is_file())


def output_names(inputs: list[Path]) -> list[str]:
    """A name without suffix for each file; files of one name in several folders are told apart by a number."""
    names, taken = [], {"legend"}
    for each in inputs:
        name, number = each.stem, 1
        while name in taken:
            number += 1
            name = f"{each.stem}_{number}"
        taken.add(name)
        names.append(name)
    return names
