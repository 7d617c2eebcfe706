"""The application: routes of the state, of the page, and of predictions, behind the door."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastfcn.errors import MissingExtraError
from fastfcn.serving import openapi, problems
from fastfcn.serving.body_limits import SenderGoneError
from fastfcn.serving.decoding import KNOWN, MEDIA_TYPES
from fastfcn.serving.formats import MEDIA
from fastfcn.serving.page_routes import add_page_routes
from fastfcn.serving.predict_routes import add_predict_routes
from fastfcn.serving.problems import MEDIA_TYPE, Problem
from fastfcn.serving.request_limits import LEFT, Door
from fastfcn.serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI

TEXT = """Semantic segmentation of images. Problems are `application/problem+json`: `code` is for programs,
`detail` and `hint` are for people. With a token, send `Authorization: Bearer TOKEN`."""


def create_app(service: Service, started: Callable[[], None] = lambda: None) -> Door:
    """The ASGI application of `service`; `started` is called before the first request. Raises MissingExtraError."""
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", "The service") from error

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        started()
        yield
        service.close()

    # No /docs: those pages load their programs from elsewhere.
    app = FastAPI(title="fastfcn", version=version("fastfcn"), description=TEXT, lifespan=lifespan, docs_url=None,
                  redoc_url=None)  # fmt: skip
    add_state_routes(app, service)
    add_predict_routes(app, service)
    add_page_routes(app)
    add_problems(app)
    _allow_origins(app, service.settings.origins)
    _name_problem(app, bool(service.settings.token))
    return Door(app, service)


def add_state_routes(app: "FastAPI", service: Service) -> None:
    """`GET /info /health /ready /metrics`."""
    from fastapi import Response

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The network, its classes, and the limits of the service."""
        return information(service)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "alive"}

    @app.get("/ready", responses={503: {"description": "Not yet, or no more."}})
    async def ready() -> dict[str, str]:
        """Whether images are taken."""
        if not service.ready:
            raise problems.busy(1)
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        content, media = service.metrics.expose()
        return Response(content, headers={"Content-Type": media})


def information(service: Service) -> dict[str, Any]:
    """What `GET /info` says."""
    settings, about = service.settings, service.description
    classes = [
        {"index": index, "name": each.name, "color": each.color, "ids": each.ids}
        for index, each in enumerate(about.classes)
    ]
    limits = {
        "bytes": settings.max_bytes,
        "pixels": settings.max_pixels,
        "images": settings.max_images,
        "batch_bytes": settings.max_body,
        "seconds": settings.timeout,
        "formats": KNOWN,
        "media_types": MEDIA_TYPES,
    }
    return {
        "version": version("fastfcn"),
        "model": {"name": settings.name} | service.about,
        "classes": classes,
        "description": about.model_dump(mode="json"),
        "answers": MEDIA,
        "limits": limits,
    }


def add_problems(app: "FastAPI") -> None:
    """Answer every kind of error as a problem, with the request's id."""
    from fastapi import Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def answer(request: Request, error: Exception) -> Response:
        match error:
            case Problem():
                problem = error
            case SenderGoneError():
                return Response(status_code=LEFT)
            case HTTPException():
                problem = problems.from_status(error.status_code)
            case RequestValidationError():
                first = error.errors()[0]
                problem = problems.wrong_parameter(f"{first['loc'][-1]}: {first['msg']}.")
            case _:
                problem = problems.internal()
        request.state.problem = problem.code
        body = problem.body(request.state.request_id)
        return JSONResponse(body, problem.status, problem.headers, media_type=MEDIA_TYPE)

    for kind in (Problem, SenderGoneError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)


def _allow_origins(app: "FastAPI", origins: tuple[str, ...]) -> None:
    if not origins:
        return
    from fastapi.middleware.cors import CORSMiddleware

    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        expose_headers=["X-Request-ID", "Retry-After", "Server-Timing"],
    )


def _name_problem(app: "FastAPI", needs_token: bool) -> None:
    """Put the problem's schema, and the token's, into the OpenAPI document."""
    made = app.openapi

    def document() -> dict[str, Any]:
        whole = made()
        parts = whole.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = openapi.PROBLEM_SCHEMA
        if needs_token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            whole["security"] = [{"token": []}]
        return whole

    app.openapi = document  # type: ignore[method-assign]
