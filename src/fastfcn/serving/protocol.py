"""HTTP connections that do not wait for ever: late headers, readers that stop reading, too many sockets."""

import asyncio
from typing import Any

from fastfcn.errors import MissingExtraError

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Guard(asyncio.Protocol):
    """In front of uvicorn's protocol: a request's headers, and what is left of a body after its answer, arrive within
    `head_timeout` seconds, a reader that takes nothing is left after `write_timeout`, and at most `most` sockets are
    open."""

    head_timeout: float
    write_timeout: float
    most: int
    head: asyncio.TimerHandle | None = None
    reader: asyncio.TimerHandle | None = None
    connections: set  # these five are uvicorn's
    cycle: Any
    conn: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    @property
    def answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(BUSY)
            transport.close()
        else:
            self.head = self.loop.call_later(self.head_timeout, self.too_late)

    def data_received(self, data: bytes) -> None:
        if self.head is None and not self.answering:
            self.head = self.loop.call_later(self.head_timeout, self.too_late)
        super().data_received(data)
        if self.answering:
            self.forget_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        # With the next request here already, its headers are; a timer would end it.
        if not self.answering and self.conn.their_state.__name__ == "SEND_BODY" and self.head is None:
            self.head = self.loop.call_later(self.head_timeout, self.too_late)

    def too_late(self) -> None:
        self.head = None
        if not self.answering and not self.transport.is_closing():
            if self.cycle is None:
                self.transport.write(LATE)
            self.transport.close()

    def forget_head(self) -> None:
        if self.head is not None:
            self.head.cancel()
            self.head = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self.reader = self.loop.call_later(self.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget_head()
        if self.reader is not None:
            self.reader.cancel()
        super().connection_lost(exc)


def guarded_protocol(head_timeout: float, write_timeout: float, most: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol behind a Guard with these limits."""
    try:
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve", "The service") from error
    limits = {"head_timeout": head_timeout, "write_timeout": write_timeout, "most": most}
    return type("Guarded", (Guard, H11Protocol), limits)
