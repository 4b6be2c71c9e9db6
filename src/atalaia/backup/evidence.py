"""What is known of a backup besides itself, kept beside it (`proof.json`) for whoever has lost the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from atalaia.backup.model import Backup, State, Verification, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import holding
from atalaia.backup.vault.place import Missing, Place, PlaceError

NAME = "proof.json"
_log = logging.getLogger("atalaia.backup")


def publish(site: Site, backup: Backup, places: Sequence[Place] | None = None) -> None:
    """Write it into repositories (default: all that have the backup). Never raises: the catalogue is what counts."""
    noted = {copy.repository: copy.problem for copy in backup.copies}
    for place in holding(site, backup) if places is None else places:
        if noted.get(place.address):
            continue
        try:
            place.put(f"{backup.folder}/{NAME}", encode(backup, sealed=site.settings.encryption))
        except PlaceError as error:
            _log.warning(logfmt("proof_not_written", backup=backup.id, repository=place.address, problem=error.what))


def encode(backup: Backup, *, sealed: bool) -> bytes:
    """As JSON; beside a `sealed` backup without what differed, which names tables."""
    told = [
        {
            "at": test.at.astimezone(UTC).isoformat(),
            "passed": test.passed,
            "seconds": test.seconds,
            "server_version": test.server_version,
            "detail": _NOT_TOLD if sealed and test.detail else test.detail,
        }
        for test in backup.verifications
    ]
    data = {"sha256": backup.sha256, "keep": backup.keep, "verifications": told}
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


_NOT_TOLD = "it differed from what was backed up"


def applied(place: Place, backup: Backup) -> Backup:
    """A backup found in a repository, with what its tests said; without (readable) evidence it is complete.

    Raises PlaceError when the place does not answer.
    """
    try:
        data = orjson.loads(place.read(f"{backup.folder}/{NAME}"))
        if data["sha256"] != backup.sha256:
            return backup
        tests = tuple(
            Verification(
                datetime.fromisoformat(one["at"]),
                bool(one["passed"]),
                float(one["seconds"]),
                str(one["server_version"]),
                str(one["detail"]),
            )
            for one in data["verifications"]
        )
        keep = str(data["keep"])
    except (Missing, ValueError, KeyError, TypeError):
        return backup
    backup = replace(backup, verifications=tests, keep=keep)
    if not tests:
        return backup
    passed = tests[-1].passed
    return replace(backup, state=State.VERIFIED if passed else State.FAILED, error="" if passed else tests[-1].detail)
