"""Reading a request's body: so many bytes at most, within a time, and so many of all requests at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastfcn.serving import problems

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
CHUNKED = 64 * 2**10  # bytes taken from the budget at a time where the length is not announced


class SenderGoneError(Exception):
    """Whoever sent the request has left; there is nobody to answer."""


class Budget:
    """Bytes of bodies that may be in memory at once."""

    def __init__(self, most: int):
        self.most = most
        self.used = 0

    def take(self, count: int) -> None:
        """Raises Problem (503) where there is no room for `count` more bytes."""
        if self.used + count > self.most:
            raise problems.busy(1)
        self.used += count


def announced_length(headers: Mapping[str, str], most: int) -> int | None:
    """The Content-Length; None without one. Raises Problem (413) where it is more than `most`."""
    given = headers.get("content-length", "")
    if not given.isascii() or not given.isdecimal():
        return None
    length = int(given[:20])
    if length > most:
        raise problems.too_many_bytes(most)
    return length


@asynccontextmanager
async def body_of(
    headers: Mapping[str, str], receive: Receive, budget: Budget, most: int, seconds: float
) -> AsyncIterator[bytearray]:
    """The body of a request; its bytes count in `budget` until the end of the block.

    Raises Problem: 413 beyond `most` bytes (before any is read, where the length is announced), 408 where it has not
    arrived within `seconds`, 503 where the budget is spent; SenderGoneError where the sender left.
    """
    taken = announced_length(headers, most) or 0
    budget.take(taken)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SenderGoneError
                body += message.get("body", b"")
                if len(body) > most:
                    raise problems.too_many_bytes(most)
                if len(body) > taken:
                    budget.take(CHUNKED + len(body) - taken)
                    taken = CHUNKED + len(body)
                if not message.get("more_body", False):
                    break
        yield body
    except TimeoutError as error:
        raise problems.slow_sender(seconds) from error
    finally:
        budget.used -= taken
