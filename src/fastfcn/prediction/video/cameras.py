"""Cameras by the names that people give them: `webcam` is the first, `webcam:1` the second."""

import sys

from fastfcn.errors import DataError
from fastfcn.prediction.video.reader import VideoReader


def open_camera(name: str) -> VideoReader:
    """The camera as a video without end; raises DataError where there is none.

    Written after PyAV's and FFmpeg's documentation and tried with a drawn picture in a camera's place.
    """
    file, form, options = address(name.partition(":")[2] or "0")
    try:
        return VideoReader(file, form, options)
    except DataError as error:
        raise DataError(
            f"There is no camera {name}: {error.message}",
            "Is it plugged in, and does another program use it? webcam is the first, webcam:1 the second.",
        ) from error


def address(which: str) -> tuple[str, str, dict[str, str]]:
    """File, format and options by which FFmpeg knows the camera on this system.

    https://ffmpeg.org/ffmpeg-devices.html: v4l2, avfoundation and dshow.
    """
    match sys.platform:
        case "darwin":
            return f"{which}:none", "avfoundation", {"framerate": "30"}
        case "win32" if which.isdigit():
            return f"video={_windows_names()[int(which)]}", "dshow", {}
        case "win32":
            return f"video={which}", "dshow", {}
        case _:
            return f"/dev/video{which}", "v4l2", {}


def _windows_names() -> list[str]:
    import av.device

    names = [each.name for each in av.device.enumerate_input_devices("dshow") if "video" in each.media_types]
    return names + [""] * 10  # a camera that is not there is refused with all others
