"""What every request passes: an id, who may come in, headers of safety, a log line and figures (ASGI middleware)."""

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from fastfcn.serving import problems
from fastfcn.serving.logs import note
from fastfcn.serving.problems import MEDIA_TYPE, Problem
from fastfcn.serving.service import Service

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

PROTECTED = ("/predict", "/predict/batch", "/info", "/metrics")  # with a token; the rest says nothing of the network
COUNTED = (*PROTECTED, "/health", "/ready", "/openapi.json", "/")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LEFT = 499  # nginx's status for a client that closed the connection
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Door:
    """Wraps the application `app`; one for all requests."""

    def __init__(self, app: App, service: Service):
        self.app, self.service = app, service
        self.settings, self.metrics = service.settings, service.metrics

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, send, self.service)
        try:
            self._check(visit)
            await self.app(scope, receive, visit.send)
        except Problem as problem:
            await visit.refuse(problem)
        except Exception as error:  # the answer, a 500, is sent already; it belongs in the log, with the id
            note("error", logging.ERROR, error, id=visit.id, path=visit.path)
            if not visit.status:
                await visit.refuse(problems.internal())
        finally:
            self._record(visit)

    def _check(self, visit: "_Visit") -> None:
        """Raise Problem for whoever may not come in."""
        origin = visit.headers.get("origin")
        if origin and origin not in self.settings.origins and "*" not in self.settings.origins:
            host = visit.headers.get("host", "")
            if visit.method not in ("GET", "HEAD") and urlsplit_host(origin) != host.lower():
                raise problems.foreign_origin()
        token = self.settings.token
        if token and visit.path in PROTECTED and visit.method != "OPTIONS":
            given = visit.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise problems.unauthorized()
        if visit.path.startswith("/predict") and visit.method == "POST":
            self.service.check_room()  # here, where it costs little: many come when there is no room

    def _record(self, visit: "_Visit") -> None:
        seconds = monotonic() - visit.began
        path = visit.path if visit.path in COUNTED else "other"
        self.metrics.requests.labels(path, str(visit.status)).inc()
        self.metrics.request_seconds.labels(path).observe(seconds)
        code = visit.scope["state"].get("problem")
        if code:
            self.metrics.refused.labels(code).inc()
        fields = {"id": visit.id, "method": visit.method[:16], "path": visit.path[:200], "status": visit.status}
        fields |= {"milliseconds": round(1000 * seconds, 1), "bytes": visit.sent}
        fields |= {"problem": code} if code else {}
        note("request", **fields, **visit.scope["state"].get("notes", {}))


def urlsplit_host(origin: str) -> str:
    """`https://Example.com:8000` -> `example.com:8000`; empty for what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class _Visit:
    """One request at the door: what came, and what went out."""

    def __init__(self, scope: Scope, send: Send, service: Service):
        self.scope, self._send, self._service = scope, send, service
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.path, self.method = scope["path"], scope["method"]
        self.began, self.status, self.sent = monotonic(), 0, 0
        given = self.headers.get("x-request-id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.id
        scope["state"]["notes"] = {}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass an answer on, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = SAFETY | {"X-Request-ID": self.id}
            if not self._service.ready:  # the service ends: a further request here would get no answer
                extra = extra | {"Connection": "close"}
            if self.path not in ("/",) and not self.path.startswith("/page/"):
                extra = extra | {"Cache-Control": "no-store"}
            message["headers"] = [
                *message.get("headers", ()),
                *((name.lower().encode(), value.encode()) for name, value in extra.items()),
            ]
        else:
            self.sent += len(message.get("body", b""))
        if self.status != LEFT:
            await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, past the application."""
        self.scope["state"]["problem"] = problem.code
        body = json.dumps(problem.body(self.id)).encode()
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})
