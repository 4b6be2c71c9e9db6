"""A group as it runs: when it is due, and what is known of its rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atalaia.rules.evaluation import Known
from atalaia.rules.model import Placed, RuleKey
from atalaia.rules.schedule import Schedule, schedule_of


@dataclass(frozen=True, slots=True)
class View:
    """A group as others see it: `known` for each of its rules; `moment` ns and `took` s of its last evaluation."""

    placed: Placed
    known: tuple[Known, ...]
    moment: int
    took: float
    missed: int


@dataclass(slots=True)
class Running:
    """Changed by whoever evaluates it, who is one at a time; `known` is replaced, never changed."""

    placed: Placed
    schedule: Schedule
    due: int
    known: tuple[Known, ...]
    busy: bool = False
    moment: int = 0
    took: float = 0.0
    missed: int = 0

    @classmethod
    def of(cls, placed: Placed, now: int, known_of: Callable[[RuleKey], Known]) -> Running:
        """A group that begins at `now` ns."""
        schedule = schedule_of(placed)
        return cls(placed, schedule, schedule.after(now), tuple(map(known_of, placed.group.keys())))

    def take(self, now: int) -> int | None:
        """The moment to evaluate, if one is due at `now` ns. Moments before it that were missed are counted."""
        if self.due - now > self.schedule.interval:  # the clock went back
            self.due = self.schedule.after(now)
        if self.busy or self.due > now:
            return None
        self.missed += self.schedule.missed(self.due, now)
        moment = self.schedule.latest(now)
        self.due, self.busy = moment + self.schedule.interval, True
        return moment

    def view(self) -> View:
        """It now."""
        return View(self.placed, self.known, self.moment, self.took, self.missed)
