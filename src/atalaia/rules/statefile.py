"""What alerts were doing, kept over a restart: STORE/rules/alerts.json, replaced atomically when a state changes.

{"version": 1, "saved": ns, "rules": [{tenant, namespace, group, rule, labels, number, alerts: [{…}]}]}, an alert with
labels, annotations, value (null: not finite), active, fired, gone. Moments are in ns, null for none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from atalaia.environment.state import write_atomically
from atalaia.logql.matrix import Labels, label_key
from atalaia.rules.alerts import Alert
from atalaia.rules.model import MINUTE, RuleKey

log = logging.getLogger("atalaia.rules")
TOLERANCE = 60 * MINUTE
"""How long nobody may have looked before a pending alert begins anew."""
Key = tuple[tuple[str, str, str], RuleKey]
"""A group's key and its rule's."""
Remembered = Mapping[Key, Mapping[Labels, Alert]]


def save(path: Path, rules: Remembered, now: int) -> None:
    """Write the alerts of all rules. Raises OSError."""
    listed = [
        {
            "tenant": tenant,
            "namespace": namespace,
            "group": group,
            "rule": name,
            "labels": dict(labels),
            "number": number,
            "alerts": [_data(alert) for alert in alerts.values()],
        }
        for ((tenant, namespace, group), (_, name, labels, number)), alerts in rules.items()
        if alerts
    ]
    text = orjson.dumps({"version": 1, "saved": now, "rules": listed}, option=orjson.OPT_INDENT_2).decode()
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, text + "\n")


def _data(alert: Alert) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "value": alert.value if math.isfinite(alert.value) else None,
        "active": alert.active,
        "fired": alert.fired,
        "gone": alert.gone,
    }


def load(path: Path, now: int) -> dict[Key, dict[Labels, Alert]]:
    """The alerts that were kept; a damaged file is told, and alerts begin anew."""
    try:
        data = orjson.loads(path.read_bytes())
        if data["version"] != 1:
            raise ValueError(f"version {data['version']!r} is not known")
        lost = now - data["saved"] > TOLERANCE
        found: dict[Key, dict[Labels, Alert]] = {}
        for one in data["rules"]:
            key = (
                (one["tenant"], one["namespace"], one["group"]),
                (False, one["rule"], label_key(one["labels"]), one["number"]),
            )
            alerts = [_alert(item) for item in one["alerts"]]
            found[key] = {alert.labels: alert for alert in alerts if alert.fired is not None or not lost}
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("event=alerts_forgotten file=%s reason=%r", path, str(error))
        return {}


def _alert(item: Any) -> Alert:
    value = math.nan if item["value"] is None else float(item["value"])
    moments = [None if item[name] is None else int(item[name]) for name in ("fired", "gone")]
    return Alert(label_key(item["labels"]), dict(item["annotations"]), value, int(item["active"]), *moments)
