"""Whether backups are as promised: for `backup status`, `status` and `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atalaia.environment.load import Environment

if TYPE_CHECKING:
    from atalaia.backup.keeping.facts import Facts, Reason


def look(environment: Environment) -> tuple[Facts, list[Reason]]:
    """The facts, and what is red; repositories are not read."""
    from atalaia.backup.keeping.gather import gather
    from atalaia.backup.keeping.promise import judge

    facts = gather(environment)
    return facts, judge(facts)


def as_data(facts: Facts, reasons: Sequence[Reason]) -> dict[str, Any]:
    """For programs."""
    from atalaia.backup.keeping.promise import newest_verified

    newest = {server: newest_verified(facts, server) for server in facts.servers}
    promised = facts.promised
    return {
        "good": not reasons,
        "watched": facts.watched,
        "reasons": [asdict(reason) for reason in reasons],
        "promised_seconds": promised.total_seconds() if promised else None,
        "service": facts.service,
        "servers": {
            server: {
                "verified": backup.id if backup else None,
                "verified_at": backup.started.isoformat() if backup else None,
                "age_seconds": max(0.0, (facts.now - backup.started).total_seconds()) if backup else None,
                "wal_covered": seen.covered.isoformat() if (seen := facts.wal.get(server)) and seen.covered else None,
            }
            for server, backup in newest.items()
        },
    }


def lines_of(facts: Facts, reasons: Sequence[Reason]) -> list[str]:
    """For people: what is red first, then each server."""
    from atalaia.backup.keeping.promise import newest_verified, show_age

    lines = [f"RED  {reason}" for reason in reasons]
    for server in facts.servers if facts.problem is None else ():
        newest = newest_verified(facts, server)
        if newest is None:
            lines.append(f"{server}: no verified backup")
            continue
        said = f"{server}: {newest.id} is verified, {show_age(facts.now - newest.started)} old"
        if proofs := [proof for proof in newest.verifications if proof.passed]:
            said += f", restored in {proofs[-1].seconds:.1f} s"
        lines.append(said + (f" (promised: {show_age(facts.promised)})" if facts.promised else ""))
    if not facts.watched:
        lines.append("nothing is promised: [backups.schedule] and [backups.promise] in atalaia.toml do that")
    return lines
