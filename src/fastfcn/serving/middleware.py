"""ASGI middleware for every request: request id, authentication, security headers, log line and metrics."""

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
from fastfcn.serving.hosts import AllowedHosts
from fastfcn.serving.monitoring import log_event
from fastfcn.serving.problems import MEDIA_TYPE, Problem
from fastfcn.serving.service import Service

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

# These need the token; the other paths reveal nothing about the model.
PROTECTED = ("/predict", "/predict/batch", "/info", "/metrics")
PROTECTED_PREFIX = "/v2/models/"
METRIC_PATHS = (*PROTECTED, "/health", "/ready", "/openapi.json", "/", "/v2", "/v2/health/live", "/v2/health/ready")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_CLOSED = 499  # nginx's status for a client that closed the connection
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class RequestMiddleware:
    """Wraps the ASGI application `app`."""

    def __init__(self, app: App, service: Service):
        self.app, self.service = app, service
        self.settings, self.metrics = service.settings, service.metrics
        self.hosts = AllowedHosts(service.settings)

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request(scope, send, self.service)
        try:
            self._check(request)
            await self.app(scope, receive, request.send)
        except Problem as problem:
            await request.respond_with(problem)
        except Exception as error:  # a 500 response was already sent; log the traceback
            log_event("error", logging.ERROR, error, id=request.id, path=request.path)
            if not request.status:
                await request.respond_with(problems.internal())
        finally:
            self._record(request)

    def _check(self, request: "_Request") -> None:
        """Raise Problem if the request is not allowed, or if the queue is full."""
        host = request.headers.get("host", "")
        if host not in self.hosts:
            raise problems.foreign_host(host)
        origin = request.headers.get("origin", "")
        allowed = not origin or origin in self.settings.origins or "*" in self.settings.origins
        if not allowed and request.method not in ("GET", "HEAD") and host_of(origin) != host.lower():
            raise problems.foreign_origin()
        token = self.settings.token
        protected = request.path in PROTECTED or request.path.startswith(PROTECTED_PREFIX)
        if token and protected and request.method != "OPTIONS":
            authorization = request.headers.get("authorization", "")
            if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
                raise problems.unauthorized()
        if request.path.startswith(("/predict", PROTECTED_PREFIX)) and request.method == "POST":
            self.service.check_room()  # before reading the body: cheap under overload

    def _metric_path(self, path: str) -> str:
        """The path in metrics: few values, whatever clients ask for."""
        model = f"{PROTECTED_PREFIX}{self.settings.name}"
        known = path in METRIC_PATHS or path in (model, f"{model}/ready", f"{model}/infer")
        return path if known else "other"

    def _record(self, request: "_Request") -> None:
        seconds = monotonic() - request.started
        path = self._metric_path(request.path)
        self.metrics.requests.labels(path, str(request.status)).inc()
        self.metrics.request_seconds.labels(path).observe(seconds)
        code = request.scope["state"].get("problem")
        if code:
            self.metrics.problems.labels(code).inc()
        fields = {"id": request.id, "method": request.method[:16], "path": request.path[:200], "status": request.status}
        fields |= {"milliseconds": round(1000 * seconds, 1), "bytes": request.sent}
        fields |= {"problem": code} if code else {}
        log_event("request", **fields, **request.scope["state"].get("log_fields", {}))


def host_of(origin: str) -> str:
    """`https://Example.com:8000` -> `example.com:8000`; empty for an invalid URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class _Request:
    """A request, and what was sent in response."""

    def __init__(self, scope: Scope, send: Send, service: Service):
        self.scope, self._send, self._service = scope, send, service
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.path, self.method = scope["path"], scope["method"]
        self.started, self.status, self.sent = monotonic(), 0, 0
        request_id = self.headers.get("x-request-id", "")
        self.id = request_id if REQUEST_ID.fullmatch(request_id) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.id
        scope["state"]["log_fields"] = {}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of the response, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = SECURITY_HEADERS | {"X-Request-ID": self.id}
            if not self._service.ready:  # shutting down: a further request on this connection would get no response
                extra = extra | {"Connection": "close"}
            if self.path not in ("/",) and not self.path.startswith("/page/"):
                extra = extra | {"Cache-Control": "no-store"}
            message["headers"] = [
                *message.get("headers", ()),
                *((name.lower().encode(), value.encode()) for name, value in extra.items()),
            ]
        else:
            self.sent += len(message.get("body", b""))
        if self.status != CLIENT_CLOSED:
            await self._send(message)

    async def respond_with(self, problem: Problem) -> None:
        """Respond with a problem, bypassing the application."""
        self.scope["state"]["problem"] = problem.code
        body = json.dumps(problem.body(self.id, self.path)).encode()
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})
