"""Where the outcome of evaluations goes: Alertmanagers, remote write, and the store. Nothing here waits for anybody."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from atalaia.environment.errors import AtalaiaError
from atalaia.logql.matrix import Labels
from atalaia.rules import history
from atalaia.rules.alertmanager import Alertmanager, Sender
from atalaia.rules.alerts import Alert, State, due
from atalaia.rules.evaluation import Evaluated, Known, alert_series
from atalaia.rules.model import Placed, Rule
from atalaia.rules.outbox import Outbox
from atalaia.rules.plan import Plan
from atalaia.rules.remote_write import STALE, RemoteWrite
from atalaia.store.commit import Appended
from atalaia.store.store import Store

log = logging.getLogger("atalaia.rules")


class Publisher:
    """Tells all receivers."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._sender = Sender(plan.labels, plan.url)
        self._alertmanagers = [Alertmanager(receiver, plan.patience) for receiver in plan.alertmanagers]
        writer = plan.remote_write
        self._remote = RemoteWrite(writer, plan.labels, plan.patience) if writer else None

    def outboxes(self) -> list[Outbox[object]]:
        """What waits for each receiver."""
        found = [one.outbox for one in self._alertmanagers] + ([self._remote.outbox] if self._remote else [])
        return list(found)  # type: ignore[arg-type]  # whoever looks does not care what waits

    def publish(self, placed: Placed, rule: Rule, before: Known, found: Evaluated, now: int) -> Known:
        """Tell of an evaluation at `now` ns; what is known then, with the moment at which alerts were sent."""
        alerts = found.known.alerts
        told = [alert for alert in alerts.values() if due(alert, now)]
        over = [alert for alert in found.changed if alert.state == State.RESOLVED]
        posted = [self._sender.posted(alert, placed, rule, now) for alert in (*told, *over)]
        for one in self._alertmanagers if posted else ():
            one.tell(posted)
        if found.changed:
            self._record(found.changed, placed, now)
        if self._remote and found.known.error is None:
            gone = dict.fromkeys(found.vanished, STALE) | self._series_gone(before, found.known)
            current = {**found.known.samples, **alert_series(found.known)}
            self._remote.write({**gone, **current}, now - placed.group.offset)
        sent = {alert.labels: replace(alert, sent=now) for alert in told}
        return replace(found.known, alerts={**alerts, **sent})

    @staticmethod
    def _series_gone(before: Known, after: Known) -> dict[Labels, float]:
        return dict.fromkeys(alert_series(before).keys() - alert_series(after).keys(), STALE)

    def _record(self, changed: Sequence[Alert], placed: Placed, now: int) -> None:
        for alert in changed:
            log.info(
                "event=alert state=%s name=%s rule_group=%r",
                alert.state,
                dict(alert.labels)["alertname"],
                placed.group.name,
            )
        try:
            self._store.append(history.entries(changed, placed, now), placed.tenant).add_done_callback(_look)
        except AtalaiaError as error:
            log.warning("event=alert_not_recorded reason=%r", error.what)

    def stop(self) -> None:
        """End; what waits is sent if that takes no time."""
        for outbox in self.outboxes():
            outbox.begin_to_stop()
        for one in self._alertmanagers:
            one.stop()
        if self._remote:
            self._remote.stop()


def _look(future: Future[Appended]) -> None:
    if future.cancelled():
        return
    if (error := future.exception()) is not None:
        log.warning("event=alert_not_recorded reason=%r", str(error))
    elif (refused := future.result().refused) is not None:
        log.warning("event=alert_not_recorded reason=%r", refused.message)
