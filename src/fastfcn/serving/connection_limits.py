"""Limits on HTTP connections: slow headers, clients that stop reading, and the number of sockets."""

import asyncio
from typing import Any

from fastfcn.errors import MissingExtraError

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class ConnectionLimits(asyncio.Protocol):
    """A mixin for uvicorn's protocol with three limits.

    A request's headers, and the rest of a body after its response, must arrive within `head_timeout` seconds; a client
    that stops reading is disconnected after `write_timeout` seconds; at most `max_connections` sockets are open.
    """

    head_timeout: float
    write_timeout: float
    max_connections: int
    head_timer: asyncio.TimerHandle | None = None
    write_timer: asyncio.TimerHandle | None = None
    connections: set  # these five are uvicorn's
    cycle: Any
    conn: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    @property
    def responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(BUSY)
            transport.close()
        else:
            self.start_head_timer()

    def data_received(self, data: bytes) -> None:
        if self.head_timer is None and not self.responding:
            self.start_head_timer()
        super().data_received(data)
        if self.responding:
            self.cancel_head_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        # If the next request is already here, its headers are complete, and the timer would end it.
        if not self.responding and self.conn.their_state.__name__ == "SEND_BODY" and self.head_timer is None:
            self.start_head_timer()

    def start_head_timer(self) -> None:
        self.head_timer = self.loop.call_later(self.head_timeout, self.head_timed_out)

    def cancel_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def head_timed_out(self) -> None:
        self.head_timer = None
        if not self.responding and not self.transport.is_closing():
            if self.cycle is None:
                self.transport.write(TIMED_OUT)
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.cancel_write_timer()

    def cancel_write_timer(self) -> None:
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.cancel_head_timer()
        self.cancel_write_timer()
        super().connection_lost(exc)


def limited_protocol(head_timeout: float, write_timeout: float, max_connections: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol with these limits."""
    try:
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve", "The service") from error
    limits = {"head_timeout": head_timeout, "write_timeout": write_timeout, "max_connections": max_connections}
    return type("LimitedProtocol", (ConnectionLimits, H11Protocol), limits)
