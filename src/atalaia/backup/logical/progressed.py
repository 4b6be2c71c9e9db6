"""How far a restore has come in each database, so that one that was interrupted goes on table by table."""

from __future__ import annotations

from dataclasses import dataclass

from atalaia.backup.physical.journal import Journal
from atalaia.environment.errors import AtalaiaError

_BEGUN, _SCHEMA, _POST, _DONE = "begun", "schema", "post", "done"


class Anew(AtalaiaError):
    """What was restored so far cannot be gone on with: the server is to be made anew."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """One database's part of the journal, by its number; without a journal nothing is noted."""

    journal: Journal | None
    number: str

    @property
    def done(self) -> bool:
        """Whether all of it is there."""
        return self._has(_DONE)

    @property
    def begun(self) -> bool:
        """Whether any of it may be there."""
        return self._has(_BEGUN)

    @property
    def loading(self) -> bool:
        """Whether it was interrupted among its rows, the only part that can be gone on with."""
        return self._has(_SCHEMA) and not self._has(_POST)

    def tables(self) -> frozenset[int]:
        """Numbers of the files whose rows are there."""
        return self.journal.has(self.number) if self.journal else frozenset()

    def table(self, number: int) -> None:
        """The rows of a file are there. A note that is lost does no harm: they are loaded again in place of those."""
        if self.journal:
            self.journal.mark(self.number, number)

    def begin(self) -> None:
        """All of it is to be made; what was noted is void."""
        if self.journal:
            for name in (self.number, *(self._name(step) for step in (_SCHEMA, _POST, _DONE))):
                self.journal.done.pop(name, None)
            self._enter(_BEGUN)

    def schema(self) -> None:
        """Rows come next."""
        self._enter(_SCHEMA)

    def post(self) -> None:
        """Indexes and constraints come next."""
        self._enter(_POST)

    def finish(self) -> None:
        """It is complete."""
        self._enter(_DONE)

    def _name(self, step: str) -> str:
        return f"{self.number} {step}"

    def _has(self, step: str) -> bool:
        return bool(self.journal and self.journal.has(self._name(step)))

    def _enter(self, step: str) -> None:
        if self.journal:
            self.journal.mark(self._name(step), 0)
            self.journal.enter(step)
