"""Images in request bodies: limits on size, time and total memory, and parsing of forms."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fastfcn.serving import problems
from fastfcn.serving.decoding import MEDIA_TYPES

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RESERVED = 64 * 2**10  # bytes taken from the budget at a time if the body's length is not announced
OTHER_FIELDS = 16  # form fields allowed besides the images
OTHER_FIELD_BYTES = 64 * 2**10
RAW_TYPES = (*MEDIA_TYPES, "image/x-ms-bmp", "image/jpg", "image/*", "application/octet-stream", "")


class ClientGoneError(Exception):
    """The client closed the connection, so no response is needed."""


@dataclass
class Upload:
    """One image as received: the client's `name` for it, and its bytes."""

    name: str
    data: bytes


class UploadBudget:
    """Bytes of request bodies that may be in memory at the same time."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Raises Problem (503) if there is no room for `count` more bytes."""
        if self.used + count > self.limit:
            raise problems.busy(1)
        self.used += count


def announced_length(headers: Mapping[str, str], limit: int) -> int | None:
    """The Content-Length, None without one. Raises Problem (413) if it exceeds `limit`."""
    text = headers.get("content-length", "")
    if not text.isascii() or not text.isdecimal():
        return None
    length = int(text[:20])
    if length > limit:
        raise problems.too_many_bytes(limit)
    return length


@asynccontextmanager
async def limited_body(
    headers: Mapping[str, str], receive: Receive, budget: UploadBudget, limit: int, seconds: float
) -> AsyncIterator[AsyncGenerator[bytes]]:
    """The chunks of a request's body. They count against `budget` until the end of the block.

    Raises Problem: 413 beyond `limit` bytes (before reading if the length is announced), 408 if the body is not
    complete within `seconds`, 503 if the budget is used up; ClientGoneError if the client disconnects.
    """
    taken = announced_length(headers, limit) or 0
    budget.take(taken)

    async def chunks() -> AsyncGenerator[bytes]:
        nonlocal taken
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            length += len(message.get("body", b""))
            if length > limit:
                raise problems.too_many_bytes(limit)
            if length > taken:
                budget.take(RESERVED + length - taken)
                taken = RESERVED + length
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    try:
        async with asyncio.timeout(seconds):
            yield chunks()
    except TimeoutError as error:
        raise problems.slow_upload(seconds) from error
    finally:
        budget.used -= taken


async def read_uploads(
    headers: Mapping[str, str], chunks: AsyncGenerator[bytes], max_images: int, max_bytes: int
) -> list[Upload]:
    """The images of a request: its body, or the files of a form; at most `max_images`, each of at most `max_bytes`.

    Raises Problem: 413 beyond these limits, 415 for a content type without images, 400 for a malformed form, 422 if
    there is no image. Image formats are detected from the data; the declared type of a file is ignored.
    """
    content_type = headers.get("content-type", "")
    media_type = content_type.split(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        uploads = await _form_files(headers, chunks, max_images)
    elif media_type in RAW_TYPES or media_type.startswith("image/"):
        uploads = [Upload("image", b"".join([chunk async for chunk in chunks]))]
    else:
        await _drain(chunks)
        raise problems.wrong_content_type(content_type)
    if not any(upload.data for upload in uploads):
        raise problems.no_image()
    if any(len(upload.data) > max_bytes for upload in uploads):
        raise problems.too_many_bytes(max_bytes)
    return uploads


async def _form_files(headers: Mapping[str, str], chunks: AsyncGenerator[bytes], max_images: int) -> list[Upload]:
    """The files of a form, parsed by Starlette."""
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    class Parser(MultiPartParser):
        # `request.form()` offers neither of these two:
        spool_max_size = 0  # keep files in memory, never in temporary files; `limited_body` bounds their size
        complete = False  # whether the final boundary was seen; otherwise a truncated form would lose its last files

        def on_end(self) -> None:
            self.complete = True

    parser = Parser(
        Headers(headers), chunks, max_files=max_images, max_fields=OTHER_FIELDS, max_part_size=OTHER_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, IndexError) as error:  # the last two: odd headers of a part
        await _drain(chunks)
        if isinstance(error, MultiPartException) and error.message.startswith("Too many files"):
            raise problems.too_many_images(max_images) from error
        raise problems.broken_form() from error
    try:
        if not parser.complete:
            raise problems.broken_form()
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Upload(file_name(file.filename or ""), await file.read()) for file in files]
    finally:
        await form.close()


async def _drain(chunks: AsyncGenerator[bytes]) -> None:
    """Read the rest of a body: a client that is still sending would not see the response."""
    async for _ in chunks:
        pass


def file_name(text: str) -> str:
    """The last part of a path, printable, at most 100 characters."""
    name = "".join(letter for letter in PurePosixPath(text.replace("\\", "/")).name if letter.isprintable())
    return name[:100] or "image"
