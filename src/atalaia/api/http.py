"""What all routes share: bodies, parameters, answers in JSON, and errors as Loki gives them."""

from __future__ import annotations

from urllib.parse import parse_qsl

import orjson
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response

from atalaia.api.pieces import TooMuchUnsent
from atalaia.api.rate import TooFast
from atalaia.api.served import Handler
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.logql.errors import LogQLError
from atalaia.query.queue import QueueFull, WaitedTooLong
from atalaia.query.ticket import QueryCancelled
from atalaia.store.commit import StoreUnavailable
from atalaia.wire.bounds import TooLarge

MOST_FORM = 1 << 20  # bytes of a form


def json_response(data: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(data), status, media_type="application/json")


def success(data: object) -> Response:
    """Loki's envelope of a good answer."""
    return json_response({"status": "success", "data": data})


_STATUS = (
    (TooLarge, 413),
    (TooFast, 429),
    (LogQLError, 400),
    (InputError, 400),
    (QueueFull, 429),
    (QueryCancelled, 499),  # as Loki: the client closed the request
    (StoreUnavailable, 503),
    (WaitedTooLong, 503),
    (TooMuchUnsent, 503),
    (AtalaiaError, 422),
)  # the first one that fits


async def body_of(request: Request, most: int) -> bytes:
    """The body, as long as it has at most `most` bytes, whatever its header says. Raises TooLarge."""
    parts: list[bytes] = []
    size = 0
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:19]) > most:
        raise TooLarge(f"the body of this request may have at most {most} bytes")
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"the body of this request may have at most {most} bytes")
        parts.append(part)
    return b"".join(parts)


async def parameters_of(request: Request) -> list[tuple[str, str]]:
    """The parameters of the form of a POST, then those of the address."""
    form = await body_of(request, MOST_FORM) if request.method == "POST" else b""
    found = [*_pairs(form), *address_parameters(request)]
    request.state.parameters = found  # the list of queries shows what is asked
    return found


def address_parameters(connection: HTTPConnection) -> list[tuple[str, str]]:
    """The parameters of the address."""
    return _pairs(connection.scope["query_string"])


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InputError(f"the parameters cannot be read: {error}") from error


def single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The first of equal parameters counts."""
    return dict(reversed(pairs))


def needed(parameters: dict[str, str], name: str) -> str:
    """A parameter that must be there. Raises InputError."""
    if not parameters.get(name):
        raise InputError(f"the parameter {name!r} is missing")
    return parameters[name]


def refused(error: AtalaiaError | LogQLError) -> tuple[int, str]:
    """The status and the text of an answer that refuses, without repeating a long request as a whole."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    text = str(error)
    return status, text if len(text) <= 2000 else text[:2000] + "…"


def refusal(error: AtalaiaError | LogQLError) -> Response:
    """The answer that refuses, as plain text; 400 for the caller's fault."""
    status, text = refused(error)
    answer = PlainTextResponse(f"{text}\n", status)
    if isinstance(error, TooFast):
        answer.headers["Retry-After"] = str(error.seconds)
    return answer


def guarded(handler: Handler) -> Handler:
    """Errors as Loki gives them: plain text."""

    async def handled(request: Request) -> Response:
        try:
            return await handler(request)
        except (AtalaiaError, LogQLError) as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    return handled
