"""What WAL a restore to a moment would replay, for its preview."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from atalaia.backup.restoring.plan import Plan
from atalaia.backup.site import Site
from atalaia.backup.wal import extent, segment, targets
from atalaia.backup.wal.archive import open_archive
from atalaia.backup.wal.view import view


@dataclass(frozen=True, slots=True)
class Way:
    """The moment in words; the WAL that is there for it, empty when none is needed; what speaks against it."""

    moment: str
    wal: str = ""
    problem: str = ""


def describe(site: Site, planned: Plan) -> Way:
    """What is replayed, as far as the archive tells without recovering. Raises PlaceError, Damaged, WrongKey."""
    backup, target = planned.backup, planned.wanted.target
    if target is None:
        at = str(backup.details.get("stop_time") or backup.started.isoformat())
        return Way(f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M:%S}Z, when the backup was made")
    moment = targets.describe(target)
    own, stop = str(backup.details["system_identifier"]), segment.lsn(str(backup.details["stop_lsn"]))
    archive = open_archive(site.repository, backup.server, own, site.keyring())
    known = extent.timelines(archive, int(backup.details["timeline"]), stop) if archive else []
    timeline = {"latest": known[-1] if known else 0, "current": int(backup.details["timeline"])}.get(target.timeline)
    timeline = int(target.timeline) if timeline is None else timeline
    reaches = [r for r in view(site, backup.server).reaches if r.system == own and r.timeline == timeline]
    if not reaches:
        return Way(moment, "", f"no WAL of {backup.server} is archived from {backup.details['stop_lsn']} on")
    last = max(reaches, key=lambda reach: segment.lsn(reach.end))
    replayed = max(segment.lsn(last.end) - stop, 0)
    wal = (
        f"{backup.details['start_lsn']} to {last.end} of timeline {last.timeline}, received until "
        f"{last.until.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z ({replayed / 1e6:,.0f} MB behind the backup's end at most)"
    )
    problem = ""
    if target.time and target.time > last.until:
        problem = "the moment lies behind the WAL that was received; recovery may not reach it"
    if target.lsn and segment.lsn(target.lsn) > segment.lsn(last.end):
        problem = f"the WAL that was received ends at {last.end}, before {target.lsn}"
    return Way(moment, wal, problem)
