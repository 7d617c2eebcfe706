"""Limits on HTTP connections: slow headers, tiny chunks, clients that stop reading, and the number of sockets."""

import asyncio
from typing import Any

from fastfcn.errors import MissingExtraError

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FREE_CHUNKS = 1000  # chunks of a body that may be of any size
CHUNK_BYTES = 64  # least mean size of all further ones
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class ChunkLimit:
    """A mixin for h11's connection: a body of very many tiny chunks is a protocol error.

    A chunk of one byte takes as long to process as one of some kilobytes, so that a single sender of tiny chunks would
    keep the event loop busy for everyone.
    """

    protocol_error: type[Exception]
    chunks = chunk_bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()  # type: ignore[misc]
        kind = type(event).__name__
        if kind == "Request":
            self.chunks = self.chunk_bytes = 0
        elif kind == "Data":
            self.chunks += event.chunk_start
            self.chunk_bytes += len(event.data)
            if self.chunks > FREE_CHUNKS + self.chunk_bytes // CHUNK_BYTES:
                self._process_error(self.their_role)  # type: ignore[attr-defined]
                raise self.protocol_error("too many tiny chunks")
        return event


class ConnectionLimits(asyncio.Protocol):
    """A mixin for uvicorn's protocol with limits.

    A request's headers, and the rest of a body after its response, must arrive within `head_timeout` seconds; a client
    that stops reading is disconnected after `write_timeout` seconds; at most `max_connections` sockets are open;
    `ChunkLimit` bounds the number of chunks.
    """

    head_timeout: float
    write_timeout: float
    max_connections: int
    head_timer: asyncio.TimerHandle | None = None
    write_timer: asyncio.TimerHandle | None = None
    connections: set  # these six are uvicorn's
    cycle: Any
    conn: Any
    loop: asyncio.AbstractEventLoop
    scope: Any
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

    def send_400_response(self, msg: str) -> None:
        state = self.conn.our_state.__name__
        if state == "SEND_RESPONSE" and self.scope["method"] == "HEAD":  # such a response has no body
            self.transport.close()
        elif state in ("IDLE", "SEND_RESPONSE"):
            super().send_400_response(msg)  # type: ignore[misc]
            if self.responding:  # the request is being processed; its response must not follow
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        else:  # the error is in the rest of a body whose response is already on its way
            self.transport.close()

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
        import uvicorn.protocols.http.h11_impl as implementation
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve", "The service") from error
    h11_impl: Any = implementation
    h11 = h11_impl.h11
    connection: Any = type(
        "LimitedConnection", (ChunkLimit, h11.Connection), {"protocol_error": h11.RemoteProtocolError}
    )

    class LimitedProtocol(ConnectionLimits, h11_impl.H11Protocol):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            self.conn = connection(h11.SERVER, h11_impl.DEFAULT_MAX_INCOMPLETE_EVENT_SIZE)
            self.head_timeout, self.write_timeout = head_timeout, write_timeout
            self.max_connections = max_connections

    return LimitedProtocol
