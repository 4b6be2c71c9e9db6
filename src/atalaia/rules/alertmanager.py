"""Alerts to an Alertmanager: POST /api/v2/alerts (https://github.com/prometheus/alertmanager, api/v2/openapi.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from atalaia.environment.connection import Connection
from atalaia.rules.alerts import RESEND, Alert
from atalaia.rules.model import Placed, Rule
from atalaia.rules.outbox import TIMEOUT, Outbox, post
from atalaia.rules.plan import Patience
from atalaia.runtime.http import open_client

_PATH = "/api/v2/alerts"
_MOST = 10_000  # alerts that wait for one Alertmanager
_BATCH = 64
_LEEWAY = 4  # an alert ends by itself when so many evaluations in a row tell nothing of it

Posted = dict[str, Any]
"""An alert as Alertmanager takes it."""


def rfc3339(ns: int) -> str:
    """A moment with nanoseconds, in UTC."""
    fraction = f".{ns % 10**9:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: the labels that all alerts get beside their own, and the address at which they can be looked into."""

    labels: Mapping[str, str]
    url: str

    def posted(self, alert: Alert, placed: Placed, rule: Rule, now: int) -> Posted:
        """An alert that fires, or fired, as it is sent at `now` ns."""
        assert alert.fired is not None
        ends = now + _LEEWAY * max(placed.group.interval, RESEND) if alert.ended is None else alert.ended
        return {
            "labels": {**self.labels, **dict(alert.labels)},
            "annotations": {name: text for name, text in alert.annotations.items() if text},
            "startsAt": rfc3339(alert.fired),
            "endsAt": rfc3339(ends),
            "generatorURL": f"{self.url}/loki/api/v1/query?query={quote(rule.expr.strip(), safe='')}",
        }


class Alertmanager:
    """One Alertmanager. Of what waits for it, only an alert's newest word is sent."""

    def __init__(self, receiver: Connection, patience: Patience | None = None) -> None:
        """`receiver`: its address may have a path, and may end with that of the API. Raises InputError."""
        base = receiver.base.rstrip("/")
        self._url = base if base.endswith(_PATH) else base + _PATH
        self._http = open_client(receiver, TIMEOUT)
        self.outbox = Outbox[Posted](self._url, self._post, _MOST, _BATCH, patience)

    def tell(self, alerts: list[Posted]) -> None:
        """Send alerts soon; returns at once."""
        self.outbox.put((orjson.dumps(one["labels"], option=orjson.OPT_SORT_KEYS), one) for one in alerts)

    def _post(self, alerts: list[Posted]) -> None:
        post(self._http, self._url, orjson.dumps(alerts), {"Content-Type": "application/json"})

    def stop(self) -> None:
        """End; what waits is sent if that takes no time."""
        self.outbox.stop()
        self._http.close()
