"""OpenTelemetry's logs over HTTP: POST /otlp/v1/logs, in protobuf and JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.http import body_of, refused
from atalaia.api.otlp_columns import table_of
from atalaia.api.otlp_json import read_json
from atalaia.api.otlp_schema import COUNTED, handler, message
from atalaia.api.pushing import append
from atalaia.api.rate import TooFast
from atalaia.api.served import POST, Served, Spec
from atalaia.api.tenants import tenant_to_push
from atalaia.environment.errors import AtalaiaError
from atalaia.logql.errors import LogQLError
from atalaia.store.batch import MOST, BatchError
from atalaia.wire.bounds import check_protobuf
from atalaia.wire.push import unpack

_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_INVALID, _UNAVAILABLE = 3, 14  # gRPC's codes


class OtlpApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [("/otlp/v1/logs", self.logs, POST)]

    async def logs(self, request: Request) -> Response:
        """POST /otlp/v1/logs: 200 with an ExportLogsServiceResponse, which tells what was refused of the entries."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            tenant = tenant_to_push(request)
            self._served.pushes.check(tenant)
            body = await body_of(request, MOST)
            table = await run_in_threadpool(read_logs, body, kind, request.headers.get("content-encoding", ""))
            appended = await append(self._served, table, tenant)
        except (AtalaiaError, LogQLError) as error:
            status, text = refused(error)
            code = _UNAVAILABLE if status == 503 else _INVALID
            answer = _answer(kind, message("Status", code=code, message=text), {"code": code, "message": text}, status)
            if isinstance(error, TooFast):
                answer.headers["Retry-After"] = str(error.seconds)
            return answer
        if appended.refused is None:
            return _answer(kind, message("ExportLogsServiceResponse"), {}, 200)
        count, text = appended.refused.count, appended.refused.message
        partial = message("Partial", rejected_log_records=count, error_message=text)
        shown = {"partialSuccess": {"rejectedLogRecords": str(count), "errorMessage": text}}
        return _answer(kind, message("ExportLogsServiceResponse", partial_success=partial), shown, 200)


def _answer(kind: str, found: Any, shown: dict[str, Any], status: int) -> Response:
    """In the encoding of the request."""
    if kind == _JSON:
        return Response(orjson.dumps(shown), status, media_type=_JSON)
    return Response(found.SerializeToString(), status, media_type=_PROTOBUF)


def read_logs(body: bytes, kind: str, encoding: str) -> pa.Table:
    """The entries of an ExportLogsServiceRequest. Raises BatchError, or TooLarge when there are too many."""
    if kind not in (_JSON, _PROTOBUF):
        raise BatchError(f"Content-Type {kind!r} is not known", f"send {_PROTOBUF} or {_JSON}")
    raw = unpack(body, encoding)
    if kind == _JSON:
        return table_of(read_json(raw))
    check_protobuf(raw, COUNTED)
    try:
        batch = handler().list_to_record_batch([raw])
        batch.validate(full=True)
        return table_of(batch)
    except AtalaiaError:
        raise
    except Exception as error:  # ptars raises types of its own
        raise BatchError(
            f"not an ExportLogsServiceRequest: {error}", "see OpenTelemetry's documentation of OTLP/HTTP"
        ) from error
