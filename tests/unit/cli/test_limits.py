from __future__ import annotations

import re
from pathlib import Path

import pytest

from atalaia.cli.limits import parse_limits, query_limits, store_options
from atalaia.environment.errors import InputError
from atalaia.environment.settings import LimitsSettings
from atalaia.query.engine import QueryLimits
from atalaia.store.batch import Limits
from atalaia.store.options import Options
from atalaia.store.retention import Retention

TABLE = Path(__file__).resolve().parents[3] / "docs" / "limits.md"


def test_the_defaults_of_the_settings_are_those_of_the_store() -> None:
    assert store_options(LimitsSettings(), Retention()) == Options()
    assert query_limits(LimitsSettings()) == QueryLimits()


def test_every_limit_arrives_in_its_unit() -> None:
    limits = parse_limits(
        [
            "labels=1", "label_name_size=2B", "label_value_size=3B", "line_size=1KiB", "metadata_size=5B",
            "metadata_keys=6", "clock_ahead=7s", "memory_table=1MiB", "disk_floor=9B", "query_memory=1GiB",
            "query_time=1500ms", "queries_running=3", "queries_waiting=4", "query_wait=2s", "answer_size=2MiB",
        ]
    )  # fmt: skip
    entries = Limits(line=1024, labels=1, label_name=2, label_value=3, metadata=5, metadata_keys=6, ahead=7_000_000_000)
    expected = Options(flush_bytes=1 << 20, limits=entries, disk_floor=9, retention=Retention(size=1))
    assert store_options(limits, Retention(size=1)) == expected
    assert query_limits(limits) == QueryLimits(
        memory=1 << 30, seconds=1.5, running=3, waiting=4, patience=2, answer=2 << 20
    )


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("line=5KiB", "--limit 'line=5KiB' is not NAME=VALUE of a known limit"),
        ("line_size", "--limit 'line_size' is not NAME=VALUE of a known limit"),
        ("line_size=5", "--limit line_size=5: '5' is not from 128 B to 64 MiB"),
        ("labels=many", "--limit labels=many: "),
        ("labels=0", "--limit labels=0: "),
    ],
)
def test_a_limit_that_is_none_is_told(limit: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        parse_limits(["metadata_keys=5", limit])


def test_the_document_lists_every_limit_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", TABLE.read_text(), re.MULTILINE))
    defaults = {name: field.default for name, field in LimitsSettings.model_fields.items()}
    assert listed == {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in defaults.items()}
