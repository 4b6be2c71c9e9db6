"""The paths and answers of Loki before its version 1, which old clients still use."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.http import json_response, needed, parameters_of, single
from atalaia.api.names import NamesApi
from atalaia.api.pushing import PushApi
from atalaia.api.queries import finder
from atalaia.api.served import BOTH, POST, Served, Spec
from atalaia.environment.errors import InputError
from atalaia.logql.entry import Entry
from atalaia.logql.literals import quote
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery


class OldApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._names = NamesApi(served)
        self._pushes = PushApi(served)

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/api/prom/push", self._pushes.push, POST),
            ("/api/prom/query", self.query, BOTH),
            ("/api/prom/label", self.labels, BOTH),
            ("/api/prom/label/{name}/values", self.label_values, BOTH),
            ("/api/prom/series", self._names.series, BOTH),
        ]

    async def query(self, request: Request) -> Response:
        """/api/prom/query: entries over a time; `regexp` is one more filter of lines."""
        parameters = single(await parameters_of(request))
        text = needed(parameters, "query")
        tree = parse(text)
        if not isinstance(tree, LogQuery):
            raise InputError("legacy endpoints only support streams result type, current type is matrix")
        if parameters.get("regexp"):
            # A query may end in a comment.
            filtered = parse(f"{text}\n|~ {quote(parameters['regexp'])}")
            assert isinstance(filtered, LogQuery)
            tree = filtered
        find = finder(request, self._served, tree, parameters)
        return json_response(await asked(request, self._served, lambda ticket: shown(find(ticket))))

    async def labels(self, request: Request) -> Response:
        """/api/prom/label: the names of all labels."""
        return await self._names.labelled(request, lambda found: json_response({"values": list(found)}))

    async def label_values(self, request: Request) -> Response:
        """/api/prom/label/{name}/values."""
        name = request.path_params["name"]
        return await self._names.labelled(request, lambda found: json_response({"values": found.get(name, [])}), name)


def shown(found: list[Entry]) -> dict[str, object]:
    """Entries by stream, as the old answer has them: labels as a text, times in RFC 3339."""
    streams: dict[str, list[dict[str, str]]] = {}
    for entry in found:
        labels = ", ".join(f"{name}={quote(value)}" for name, value in sorted(entry.all().items()))
        streams.setdefault(f"{{{labels}}}", []).append({"ts": moment(entry.ts), "line": entry.line})
    return {"streams": [{"labels": labels, "entries": some} for labels, some in streams.items()], "stats": {}}


def moment(ns: int) -> str:
    """Nanoseconds since 1970 in RFC 3339, as many digits of the second as it needs."""
    seconds, rest = divmod(ns, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{f'.{rest:09}'.rstrip('0') if rest else ''}Z"
