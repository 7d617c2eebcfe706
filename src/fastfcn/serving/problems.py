"""Everything that can be wrong with a request, in words for whoever sent it (RFC 9457, application/problem+json)."""

from http import HTTPStatus

from fastfcn.errors import UserError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 (the word of RFC 9457)
    """An answer that is not the one asked for: `status` (HTTP), a `code` for programs, and words for people."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "", retry_after: int | None = None):
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.retry_after = retry_after

    def body(self, request_id: str) -> dict:
        """The JSON of the answer."""
        title = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Error"
        held = {"type": "about:blank", "title": title, "status": self.status, "code": self.code, "detail": self.detail}
        held |= {"hint": self.hint} if self.hint else {}
        held |= {"retry_after": self.retry_after} if self.retry_after is not None else {}
        return held | {"request_id": request_id}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the answer."""
        extra = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return extra | ({"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {})


def busy(retry_after: int) -> Problem:
    return Problem(503, "busy", "All places are taken by images that came earlier.",
                   f"Try again in {retry_after} s.", retry_after)  # fmt: skip


def late(seconds: float) -> Problem:
    return Problem(
        504, "late", f"There was no result within {seconds:g} s.", "Try again later, or send smaller images."
    )


def slow_sender(seconds: float) -> Problem:
    return Problem(408, "slow", f"The image did not arrive within {seconds:g} s.", "Send a smaller file.")


def too_many_bytes(most: int) -> Problem:
    return Problem(413, "too-many-bytes", f"The upload is larger than {most / 2**20:.3g} MiB.",
                   "Send a smaller image, or start the service with a larger --max-mib.")  # fmt: skip


def too_many_pixels(size: tuple[int, int], most: int) -> Problem:
    height, width = size
    return Problem(413, "too-many-pixels",
                   f"The image has {width} x {height} pixels; {most / 1e6:.3g} million are the most allowed.",
                   "Shrink it, or start the service with a larger --max-megapixels.")  # fmt: skip


def too_many_images(most: int) -> Problem:
    if most == 1:
        return Problem(413, "too-many-images", "One image is asked for.", "Send several to /predict/batch.")
    return Problem(413, "too-many-images", f"A batch holds {most} images at most.", "Send several batches.")


def out_of_memory() -> Problem:
    return Problem(413, "out-of-memory", "The image needs more memory than the device has.", "Send a smaller image.")


def too_detailed(most: int) -> Problem:
    return Problem(413, "too-detailed", f"The class map has more than {most:,} pieces.",
                   "Ask for the label picture (format=labels), or send a smaller image.")  # fmt: skip


def unknown_format(found: str, known: str) -> Problem:
    return Problem(415, "unknown-format", f"This is {found}, not an image of a kind that can be read.",
                   f"Send {known}.")  # fmt: skip


def wrong_content_type(given: str) -> Problem:
    shown = given[:60] or "missing"
    return Problem(415, "wrong-content-type", f"The content type is {shown!r}.",
                   "Send the image itself (-H 'Content-Type: image/jpeg' --data-binary @street.jpg) or a form "
                   "(-F image=@street.jpg).")  # fmt: skip


def broken_image(reason: str) -> Problem:
    return Problem(422, "broken-image", f"The image cannot be read: {reason}.", "Check the file, or save it again.")


def no_image() -> Problem:
    return Problem(422, "no-image", "There is no image in the request.", "Send it as the field 'image'.")


def broken_form() -> Problem:
    return Problem(400, "broken-form", "The form (multipart/form-data) is broken.", "Send it again.")


def wrong_parameter(detail: str) -> Problem:
    return Problem(422, "wrong-parameter", detail, "See /openapi.json for what can be asked.")


def not_acceptable(wanted: str, known: str) -> Problem:
    return Problem(406, "not-acceptable", f"There is no answer of the kind {wanted[:60]!r}.",
                   f"Accept one of {known}, or use ?format=.")  # fmt: skip


def unauthorized() -> Problem:
    return Problem(401, "unauthorized", "This service asks for a token.", "Send: Authorization: Bearer TOKEN")


def foreign_origin() -> Problem:
    return Problem(403, "foreign-origin", "Pages of other sites may not use this service.",
                   "Start it with --allow-origin and the site's address.")  # fmt: skip


def internal() -> Problem:
    return Problem(500, "internal", "Something went wrong in the service; its log says what.",
                   "Report it with the request id.")  # fmt: skip


def from_status(status: int) -> Problem:
    """The problem of an HTTP status that the router answers with."""
    match status:
        case 404:
            return Problem(404, "not-found", "There is nothing at this address.", "See /openapi.json.")
        case 405:
            return Problem(405, "wrong-method", "This address is asked in another way.", "See /openapi.json.")
        case _:
            return Problem(status, "refused", "The request cannot be served.", "See /openapi.json.")


def reason_of(error: Exception) -> str:
    """An exception in one short line."""
    text = error.message if isinstance(error, UserError) else str(error)
    return (text.splitlines() or [""])[0][:120].rstrip(".") or type(error).__name__
