"""The ruler: all groups of rules of a store, evaluated in time by threads of its own; without rules it does nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from atalaia.environment.errors import AtalaiaError
from atalaia.logql.tree import Metric
from atalaia.query.execute import Executor
from atalaia.query.ticket import Ticket
from atalaia.rules import measured, statefile
from atalaia.rules.alerts import Alert
from atalaia.rules.evaluation import Evaluated, Known, Vector, asked_in_template, evaluate, vector
from atalaia.rules.files import RuleFiles
from atalaia.rules.kept import KeptGroups
from atalaia.rules.model import Group, Placed, RuleKey
from atalaia.rules.plan import Plan
from atalaia.rules.publisher import Publisher
from atalaia.rules.running import Running, View
from atalaia.rules.templates import Surroundings
from atalaia.runtime.measures import Family
from atalaia.store.store import Store

log = logging.getLogger("atalaia.rules")
_WORKERS = 2  # groups that are evaluated at the same time
_LOOK = 10.0  # s between looks at the rule files
_Key = tuple[str, str, str]


class ReadOnly(AtalaiaError):
    """The rules come from a file; the API does not change them."""


class Ruler:
    """Groups from files and from the API. `clock`: the time in ns, by which everything is decided."""

    def __init__(
        self, store: Store, executor: Executor, plan: Plan | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """Reads what is kept; evaluates nothing before `start`."""
        self._executor, self._clock = executor, clock
        self.plan = plan or Plan()
        self._publisher = Publisher(store, self.plan)
        folder = store.directory / "rules"
        self._state = folder / "alerts.json"
        self._kept, self._files = KeptGroups(folder / "groups"), RuleFiles(self.plan.files)
        self._remembered = statefile.load(self._state, clock())
        self._guard = threading.Condition(threading.RLock())
        self._saving = threading.Lock()
        self._running: dict[_Key, Running] = {}
        self._tickets: set[Ticket] = set()
        self._started = self._stopping = False
        self._thread: threading.Thread | None = None
        self._files.changed()
        self._rebuild()
        if not self._files.problems:
            self._remembered.clear()  # alerts of rules that are there no more

    # -- what is there

    def groups(self, tenants: Collection[str]) -> list[View]:
        """The groups of some tenants, by tenant, namespace and the order in which they are written."""
        with self._guard:
            return [running.view() for running in self._running.values() if running.placed.tenant in tenants]

    def problems(self) -> list[str]:
        """What is wrong with rule files now."""
        return list(self._files.problems.values())

    def families(self) -> list[Family]:
        """What there is to measure."""
        with self._guard:
            views = [running.view() for running in self._running.values()]
        return measured.families(views, self._publisher.outboxes(), len(self._files.problems))

    # -- changes

    def put(self, tenant: str, namespace: str, group: Group) -> None:
        """Add or replace a group for good. Raises ReadOnly, InputError, AtalaiaError."""
        self._changeable(tenant, namespace)
        self._kept.put(tenant, namespace, group)
        self._rebuild()

    def remove(self, tenant: str, namespace: str, name: str | None = None) -> None:
        """Remove a group, or a namespace, for good. Raises ReadOnly, NoSuchRules, AtalaiaError."""
        self._changeable(tenant, namespace)
        self._kept.remove(tenant, namespace, name)
        self._rebuild()

    def _changeable(self, tenant: str, namespace: str) -> None:
        if any((one.tenant, one.namespace) == (tenant, namespace) for one in self._files.all()):
            raise ReadOnly(
                f"the rules of {namespace!r} come from a file", "change the file; it is read again by itself"
            )

    def _rebuild(self) -> None:
        """Take over what files and API say now. Alerts of rules that stayed stay; those of the others are over."""
        with self._guard:
            now, before = self._clock(), self._running
            placed: dict[_Key, Placed] = {}
            for one in (*self._files.all(), *self._kept.all()):
                placed.setdefault(one.key, one)
            self._running = {}
            for key, one in sorted(placed.items(), key=lambda item: item[0][:2]):
                old = before.get(key)
                if old is not None and old.placed == one:
                    self._running[key] = old
                    continue
                known = self._known_before(key, old)
                made = Running.of(one, now, lambda rule, known=known: known.pop(rule, None) or Known())  # type: ignore[misc]
                self._running[key] = made
                if old is not None and old.schedule == made.schedule:
                    made.due, made.missed = old.due, old.missed
            for key, old in before.items():
                if self._running.get(key) is not old:
                    self._end_left(old, self._running.get(key), now)
            self._guard.notify_all()
        self._save()
        self._run_if_needed()

    def _known_before(self, key: _Key, old: Running | None) -> dict[RuleKey, Known]:
        if old is not None:
            return dict(zip(old.placed.group.keys(), old.known, strict=True))
        mine = [rule for rule in self._remembered if rule[0] == key]
        return {rule[1]: Known(self._remembered.pop(rule)) for rule in mine}

    def _end_left(self, old: Running, new: Running | None, now: int) -> None:
        stays = set(new.placed.group.keys()) if new else set()
        group = old.placed.group
        for rule, key, known in zip(group.rules, group.keys(), old.known, strict=True):
            if key not in stays and (known.alerts or known.samples):
                ended = tuple(replace(alert, ended=now) for alert in known.alerts.values())
                over = Evaluated(Known(moment=now), ended, tuple(known.samples))
                self._publisher.publish(old.placed, rule, known, over, now)

    # -- evaluation

    def run_due(self) -> None:
        """Evaluate, here and now, every group that is due."""
        for running, moment in self._take_due():
            self._evaluate(running, moment)

    def _take_due(self) -> list[tuple[Running, int]]:
        with self._guard:
            now = self._clock()
            taken = [(running, running.take(now)) for running in self._running.values()]
            return [(running, moment) for running, moment in taken if moment is not None]

    def _evaluate(self, running: Running, moment: int) -> None:
        placed, began, changed, missed = running.placed, time.monotonic(), False, running.missed
        try:
            for number, rule in enumerate(placed.group.rules):
                before = running.known[number]
                ticket = self._executor.ticket_for_rules()
                with self._guard:
                    if self._stopping or self._running.get(placed.key) is not running:
                        return
                    self._tickets.add(ticket)
                ask = self._asker(placed, moment, ticket)
                around = self._around(moment, ask)
                found = evaluate(rule, placed.group, before, moment, ask, around)
                with self._guard:
                    self._tickets.discard(ticket)
                    # Of a group that was replaced meanwhile, or cut short by our end, nothing is told.
                    if self._stopping or self._running.get(placed.key) is not running:
                        return
                    known = self._publisher.publish(placed, rule, before, found, moment)
                    running.known = (*running.known[:number], known, *running.known[number + 1 :])
                if found.known.error and found.known.error != before.error:
                    log.warning("event=rule_error rule=%r reason=%r", rule.name, found.known.error)
                changed |= _traits(before.alerts.values()) != _traits(known.alerts.values())
        except Exception:  # nobody looks at what a pool's work raises; the next evaluation comes all the same
            log.exception("event=evaluation_failed rule_group=%r", placed.group.name)
        finally:
            with self._guard:
                running.busy, running.moment, running.took = False, moment, time.monotonic() - began
                self._guard.notify_all()
            if changed:
                self._save()
        if running.took * 1e9 > running.schedule.interval and missed == running.missed:
            log.warning("event=rules_slow rule_group=%r seconds=%.1f", placed.group.name, running.took)

    def _asker(self, placed: Placed, moment: int, ticket: Ticket) -> Callable[[Metric], Vector]:
        at = moment - placed.group.offset
        return lambda tree: vector(self._executor.metric(tree, (placed.tenant,), at, 10**9, 1, ticket))

    def _around(self, moment: int, ask: Callable[[Metric], Vector]) -> Surroundings:
        def answer(text: str) -> list[tuple[Mapping[str, str], float]]:
            return [(dict(labels), value) for labels, value in asked_in_template(ask, text)]

        return Surroundings(answer, moment, self.plan.url, self.plan.labels)

    def _save(self) -> None:
        """Keep what alerts do over a restart."""
        with self._saving:
            with self._guard:
                pairs = [
                    ((key, rule), known.alerts)
                    for key, running in self._running.items()
                    for rule, known in zip(running.placed.group.keys(), running.known, strict=True)
                ]
            alerts = {key: found for key, found in pairs if found} | self._remembered
            if not alerts and not self._state.exists():
                return
            try:
                statefile.save(self._state, alerts, self._clock())
            except OSError as error:
                log.error("event=alerts_not_saved file=%s reason=%r", self._state, str(error))

    # -- the thread

    def start(self) -> None:
        """Evaluate in time from now on."""
        self._started = True
        for problem in self.problems():
            log.error("event=rules_refused reason=%r", problem)
        self._run_if_needed()

    def _run_if_needed(self) -> None:
        with self._guard:
            needed = bool(self._running) or bool(self.plan.files)
            if self._started and not self._stopping and needed and self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="ruler", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        looked = time.monotonic()
        with ThreadPoolExecutor(_WORKERS, "rules") as pool:
            while True:
                if self.plan.files and time.monotonic() - looked >= _LOOK:
                    looked = time.monotonic()
                    if self._files.changed():
                        self._rebuild()
                for running, moment in self._take_due():
                    pool.submit(self._evaluate, running, moment)
                with self._guard:
                    if self._stopping:
                        return
                    self._guard.wait(self._until_due())

    def _until_due(self) -> float:
        dues = [running.due for running in self._running.values() if not running.busy]
        return max(min([(due - self._clock()) / 1e9 for due in dues] + [_LOOK]), 0.001)

    def stop(self) -> None:
        """End: what is evaluated is cut short, what waits for receivers gets a moment."""
        with self._guard:
            self._stopping = True
            for ticket in self._tickets:
                ticket.cancel()
            self._guard.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._save()
        self._publisher.stop()


def _traits(alerts: Iterable[Alert]) -> set[tuple[object, ...]]:
    """What is worth keeping of alerts whenever it changes."""
    return {(alert.labels, alert.active, alert.fired, alert.gone) for alert in alerts}
