"""A minimal HTTP/1.1 client for localhost, to leave the CPU to the service."""

import asyncio
from dataclasses import dataclass

HOST = "127.0.0.1"


class UnansweredError(Exception):
    """The connection ended before a complete response."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A keep-alive connection; reopened if the service closed it."""

    def __init__(self, port: int):
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, kind: str = "image/jpeg") -> Reply:
        """Send a request; raises ConnectionRefusedError if the port is closed, UnansweredError without a full response.

        A keep-alive connection that was closed before the request arrived is reopened, as browsers do.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        kept = self._streams is not None
        try:
            reply = await self._exchange(head.encode() + body)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            if kept and not getattr(error, "partial", b""):
                return await self.post(path, body, kind)
            if isinstance(error, ConnectionRefusedError):
                raise
            raise UnansweredError(str(error)) from error
        if reply.headers.get("connection") == "close":
            self.close()
        return reply

    async def _exchange(self, request: bytes) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self.port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        return await _reply(reader)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in head[1:] if ":" in line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(head[0].split()[1]), headers, body)


async def send_raw(port: int, chunks: list[bytes], pause: float, patience: float) -> int | None:
    """Send `chunks` with pauses; returns the status, or None if the connection was closed without a response.

    Raises TimeoutError after `patience` seconds.
    """
    async with asyncio.timeout(patience):
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return None
        answer = asyncio.ensure_future(reader.readline())
        try:
            for chunk in chunks:
                if answer.done():
                    break
                writer.write(chunk)
                await writer.drain()
                if pause:
                    await asyncio.wait({answer}, timeout=pause)
            line = await answer
            parts = line.split()
            return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
        except (OSError, ValueError):
            return None
        finally:
            answer.cancel()
            writer.close()
