from __future__ import annotations

from datetime import UTC, datetime

import pytest

from atalaia.backup.model import Target
from atalaia.backup.wal import targets
from atalaia.environment.errors import InputError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T11:00:00Z", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        ("2026-11-23 11:00:00.25+02:00", datetime(2026, 11, 23, 9, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-23 08:00 America/Sao_Paulo", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        ("2026-11-23 11:00 UTC", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        ("2026-07-01T12:00:00 Europe/Lisbon", datetime(2026, 7, 1, 11, tzinfo=UTC)),
    ],
)
def test_a_time_with_its_zone_is_one_moment(text: str, expected: datetime) -> None:
    assert targets.moment(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-11-23 11:00", "no time zone"),
        ("yesterday", "is no time"),
        ("2026-11-23T12:00:01Z", "in the future"),
        ("2026-10-25 01:30 Europe/Lisbon", "was twice"),
        ("2026-03-29 01:30 Europe/Lisbon", "never was"),
        ("2026-11-23 11:00 Mars/Olympus", "no time zone that is known"),
        ("2026-11-23T11:00:00Z Europe/Lisbon", "two time zones"),
    ],
)
def test_a_time_that_could_be_another_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        targets.moment(text, NOW)


def test_a_target_is_one_thing() -> None:
    assert targets.target(lsn="0/ab", exclusive=True) == Target(lsn="0/AB", inclusive=False)
    assert targets.target(name="x", timeline="3") == Target(name="x", timeline="3")
    assert targets.target() == Target()
    for wrong in (
        {"lsn": "0/1", "name": "x"},
        {"name": ""},
        {"name": "x" * 64},
        {"timeline": "0"},
        {"timeline": "newest"},
        {"exclusive": True},
        {"name": "x", "exclusive": True},
    ):
        with pytest.raises(InputError):
            targets.target(**wrong)  # type: ignore[arg-type]  # each has its own types


def test_a_target_is_told_in_words() -> None:
    assert targets.describe(Target()) == "the end of the archived WAL"
    assert targets.describe(Target(lsn="0/1", inclusive=False)) == "just before the LSN 0/1"
    assert targets.describe(Target(time=NOW)) == "2026-11-23T12:00:00+00:00"
