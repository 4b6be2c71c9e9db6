"""Where a container's stream stands: the time of its last line, and how many lines had that time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MARGIN = 1_000_000_000  # ns before the other stream's place from where a stream without a place is read


def source(container: str, stream: str) -> str:
    """The name under which a spool keeps the place of a container's stream."""
    return f"{container}/{stream}"


@dataclass(slots=True)
class Place:
    """Times of one stream never go back (one reader of Docker's gives them), so that a repeated line is known by
    its time, and among lines of one time by its number. `skip`: lines of that time that will come again."""

    moment: int = -1
    count: int = 0
    skip: int = 0

    @classmethod
    def read(cls, cursor: str | None) -> Place:
        """Of a spool's cursor; the log is about to be read again from its time on."""
        if not cursor:
            return cls()
        moment, count = map(int, cursor.split())
        return cls(moment, count, count)

    def passes(self, moment: int) -> bool:
        """Whether a line of that time is new; it is taken as the last one then."""
        if self.skip:
            if moment < self.moment:
                return False
            if moment == self.moment:
                self.skip -= 1
                return False
            self.skip = 0
        if moment == self.moment:
            self.count += 1
        else:
            self.moment, self.count = moment, 1
        return True

    def cursor(self) -> str:
        """For the spool."""
        return f"{self.moment} {self.count}"


def since(cursors: Mapping[str, str], container: str) -> str | None:
    """From where to ask for a container's log again, in seconds; None: from its beginning."""
    moments = {
        stream: Place.read(cursors.get(source(container, stream))).moment
        for stream in ("stdout", "stderr")
        if source(container, stream) in cursors
    }
    if not moments:
        return None
    least = min(moments.values())
    if len(moments) == 1:
        least -= _MARGIN
    least = max(0, least)
    return f"{least // 10**9}.{least % 10**9:09d}"
