"""The images in a request's body: the body itself, or the files of a form."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fastfcn.serving import problems
from fastfcn.serving.decoding import MEDIA_TYPES

RAW = (*MEDIA_TYPES, "image/x-ms-bmp", "image/jpg", "image/*", "application/octet-stream", "")
OTHER_FIELDS = 16  # fields of a form beside its images


@dataclass
class Upload:
    """One image as it came: the sender's `name` for it, and its bytes."""

    name: str
    data: bytes


def uploads(content_type: str, body: bytes | bytearray, most: int, max_bytes: int) -> list[Upload]:
    """The images of a body, `most` at most and `max_bytes` each.

    Raises Problem: 413 for more, 415 for a content type that holds no image, 400 for a broken form, 422 where there is
    no image in it. What an image is, its own first bytes say; its declared type does not matter.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = _files(content_type, bytes(body), most)
    elif kind in RAW or kind.startswith("image/"):
        found = [Upload("image", bytes(body))]
    else:
        raise problems.wrong_content_type(content_type)
    if not found or not any(each.data for each in found):
        raise problems.no_image()
    if any(len(each.data) > max_bytes for each in found):
        raise problems.too_many_bytes(max_bytes)
    return found


def _files(content_type: str, body: bytes, most: int) -> list[Upload]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    try:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise problems.broken_form()
        parts = _Parts(most)
        parser = MultipartParser(boundary, parts.callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, UnicodeError, IndexError) as error:
        raise problems.broken_form() from error
    if not parts.complete:
        raise problems.broken_form()
    return parts.files


class _Parts:
    """Gathers the files of a form from the parser's calls."""

    def __init__(self, most: int):
        self.most = most
        self.files: list[Upload] = []
        self.complete = False
        self._others = 0
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._spans: list[bytes] = []

    @property
    def callbacks(self) -> dict[str, Any]:
        """What the parser calls, by its names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._spans.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._disposition, self._spans = b"", []
        self._header = (bytearray(), bytearray())

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        options = parse_options_header(self._disposition)[1]
        if b"filename" not in options and options.get(b"name") not in (b"image", b"images"):
            self._others += 1
            if self._others > OTHER_FIELDS:
                raise problems.broken_form()
            return
        if len(self.files) == self.most:
            raise problems.too_many_images(self.most)
        self.files.append(Upload(_file_name(options.get(b"filename", b"")), b"".join(self._spans)))

    def _finish(self) -> None:
        self.complete = True


def _file_name(given: bytes) -> str:
    """The last part of a path, printable and short."""
    text = given.decode("utf-8", "replace").replace("\\", "/")
    name = "".join(letter for letter in PurePosixPath(text).name if letter.isprintable())
    return name[:100] or "image"
