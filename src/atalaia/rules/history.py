"""What alerts did, as entries of the store: `{job="atalaia", event="alert"}`, so that LogQL can ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pyarrow as pa

from atalaia.rules.alerts import Alert
from atalaia.rules.model import Placed
from atalaia.store.batch import METADATA, SCHEMA, canonical

STREAM = {"job": "atalaia", "event": "alert"}
_MOST = 1_000  # characters of a label or an annotation


def entries(changed: Sequence[Alert], placed: Placed, now: int) -> pa.Table:
    """An entry an alert that came into another state at `now` ns: a line in logfmt, its labels as metadata."""
    return pa.Table.from_arrays(
        [
            pa.array([now] * len(changed), pa.int64()),
            pa.array([canonical(STREAM)] * len(changed), pa.utf8()).dictionary_encode(),
            pa.array([_line(alert) for alert in changed], pa.utf8()),
            pa.array([_metadata(alert, placed) for alert in changed], METADATA),
        ],
        schema=SCHEMA,
    )


def _line(alert: Alert) -> str:
    labels = dict(alert.labels)
    words = {"alertname": labels.pop("alertname"), "alertstate": alert.state.value, "value": f"{alert.value:g}"}
    pairs = [*words.items(), *labels.items(), *alert.annotations.items()]
    return " ".join(f"{name}={_word(text[:_MOST])}" for name, text in pairs)


def _word(text: str) -> str:
    plain = text and not any(c in '"=\\' or c.isspace() or not c.isprintable() for c in text)
    return text if plain else orjson.dumps(text).decode()


def _metadata(alert: Alert, placed: Placed) -> list[tuple[str, str]]:
    own = {"alertstate": alert.state.value, "rule_namespace": placed.namespace, "rule_group": placed.group.name}
    # A name that the stream has already would not be found by its own name.
    labels = {f"alert_{name}" if name in STREAM else name: text[:_MOST] for name, text in alert.labels}
    return list({**labels, **own}.items())
