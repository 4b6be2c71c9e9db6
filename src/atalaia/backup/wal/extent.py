"""How far an archive reaches: ranges without a hole, holes, the way along timelines; and what may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atalaia.backup.site import Site
from atalaia.backup.vault.place import Place
from atalaia.backup.wal import segment
from atalaia.backup.wal.archive import OPEN, Archive, folder_of, note, systems
from atalaia.backup.wal.segment import PARTIAL, Segment


@dataclass(frozen=True, slots=True)
class Range:
    """Segments of one timeline without a hole; `partial`: the last one is still being received, or was then."""

    first: Segment
    last: Segment
    partial: bool

    @property
    def names(self) -> tuple[str, str]:
        """The names in the archive of its first and its last one."""
        single = self.first == self.last
        return (
            self.first.name + (PARTIAL if single and self.partial else ""),
            self.last.name + (PARTIAL if self.partial else ""),
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Segments that are missing on a timeline, while later ones are there."""

    first: Segment
    last: Segment

    def __str__(self) -> str:
        return f"{segment.show(self.first.start)} to {segment.show(self.last.end)} of timeline {self.first.timeline}"


def ranges(archive: Archive) -> list[Range]:
    """What is there, by timeline and position."""
    found: list[Range] = []
    for each in sorted(archive.wholes | archive.partials):
        partial = each in archive.partials
        before = found[-1] if found else None
        if before and not before.partial and before.last.next == each:
            found[-1] = Range(before.first, each, partial)
        else:
            found.append(Range(each, each, partial))
    return found


def gaps(archive: Archive) -> list[Gap]:
    """What is missing between the ranges of a timeline, and between a timeline's fork and its first segment."""
    found = []
    last: dict[int, Segment] = {}
    for each in ranges(archive):
        timeline = each.first.timeline
        if timeline in last:
            wanted = last[timeline]
        else:
            forks = archive.forks(timeline)
            # What lies before the archive's beginning is not missed.
            known = forks and any(s.timeline == forks[-1].timeline for s in archive.wholes | archive.partials)
            wanted = segment.at(timeline, forks[-1].position, archive.segment_size) if known else each.first
        if wanted < each.first:
            found.append(Gap(wanted, Segment(timeline, each.first.number - 1, archive.segment_size)))
        last[timeline] = each.last if each.partial else each.last.next
    return found


def way(archive: Archive, timeline: int, start: int) -> tuple[list[Segment], Segment | None]:
    """The segments that recovery along `timeline` reads from position `start` on, until the end or the first hole.

    The second is the first missing one when there are later ones behind it. Raises as Archive.read.
    """
    size = archive.segment_size
    begins = [(fork.position // size, fork.timeline) for fork in archive.forks(timeline)]
    # Each timeline begins where the one before it was left.
    lines = list(zip([0, *(begin for begin, _ in begins)], [*(line for _, line in begins), timeline], strict=True))
    there = archive.wholes | archive.partials
    final = max((s.number for s in there if s.timeline == timeline), default=-1)
    final = max(final, lines[-1][0] - 1 if len(lines) > 1 else -1)
    found: list[Segment] = []
    for number in range(start // size, final + 1):
        line = next(line for begin, line in reversed(lines) if begin <= number)
        each = Segment(line, number, size)
        if each not in there:
            return found, each
        found.append(each)
    return found, None


def timelines(archive: Archive, timeline: int, position: int) -> list[int]:
    """The timelines with WAL that go on from `position` of `timeline`, itself first, in the order they were begun."""
    found = [timeline]
    there = {each.timeline for each in archive.wholes | archive.partials}
    for each in sorted(archive.histories & there):
        if any(fork.timeline == timeline and fork.position >= position for fork in archive.forks(each)):
            found.append(each)
    return found


def prune(site: Site, server: str, system: str, before: str | None, dry_run: bool = False) -> list[str]:
    """Remove a system's WAL that lies wholly before the LSN `before`, on every timeline, from every repository.

    With `before` None all of that system goes. Histories stay as long as anything does. The objects' names, the
    oldest first, so that what is left when it is interrupted has no hole. Raises PlaceError.
    """
    removed: dict[str, None] = {}
    for place in (site.repository, *site.copies):
        if system in systems(place, server):
            removed |= dict.fromkeys(_prune(place, server, system, before, dry_run))
    return list(removed)


def _prune(place: Place, server: str, system: str, before: str | None, dry_run: bool) -> Iterable[str]:
    names = [found.name for found in place.objects(f"{folder_of(server)}/{system}/")]
    if before is None:
        # What explains the rest goes last.
        chosen = sorted(names, key=lambda name: (name.endswith(".json"), name))
    else:
        archive = Archive(place, server, system, _segment_size(place, server, system), {}, None, "none", 1)
        archive.refresh()
        limit = segment.lsn(before)
        gone = sorted((each for each in archive.wholes | archive.partials if each.end <= limit), key=_by_position)
        chosen = [archive.object_of(each.name) + (PARTIAL if each in archive.partials else "") for each in gone]
        # A partial one that a whole one has replaced, left by a kill between the two steps.
        whole = {name for name in names if segment.is_segment(name.rsplit("/", 1)[-1])}
        chosen += sorted(name for name in names if name.removesuffix(OPEN) in whole and name.endswith(OPEN))
    if not dry_run:
        for name in chosen:
            place.delete(name)
    return chosen


def _by_position(each: Segment) -> tuple[int, int]:
    return each.number, each.timeline


def _segment_size(place: Place, server: str, system: str) -> int:
    return int(note(place, f"{folder_of(server)}/{system}/archive.json")["segment_size"])
