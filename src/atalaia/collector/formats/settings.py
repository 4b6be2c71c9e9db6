"""The formats by the names that people give them, from promtail.yaml and atalaia.toml."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from atalaia.collector.formats.auto import Auto
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.pgbouncer import PgBouncer
from atalaia.collector.formats.prefix import PrefixError, chosen, compile_prefix
from atalaia.collector.formats.redact import Redacted, WithoutPasswords
from atalaia.collector.formats.stderr import Stderr
from atalaia.collector.formats.syslogged import Syslogged
from atalaia.environment.yamlfile import Node, Reader

NAMES = ("auto", "postgres", "jsonlog", "csvlog", "stderr", "syslog", "pgbouncer")
KEYS = ("format", "log_line_prefix", "timezone", "redact")


def postgres_format(
    name: str, job: str, prefix: str | None = None, zone: str | None = None, redact: str | None = None
) -> Format:
    """The format `name` of a job. Passwords never leave; with `redact` "literals", no literal of a statement does.

    Raises ValueError, which says what is wrong, for a name, prefix, zone or redaction that is not known.
    """
    if name not in NAMES:
        raise ValueError(f"{name!r} is no format: {', '.join(NAMES)}")
    if prefix is not None:
        try:
            compile_prefix(prefix)
        except PrefixError as error:
            raise ValueError(f"log_line_prefix {prefix!r}: {error}") from None
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone {zone!r} is not known, such as America/Sao_Paulo is") from None
    if redact not in (None, "none", "literals"):
        raise ValueError(f"redact {redact!r} is neither literals nor none")
    form = _made(name, job, prefix, zone)
    return Redacted(form) if redact == "literals" else WithoutPasswords(form)


def _made(name: str, job: str, prefix: str | None, zone: str | None) -> Format:
    if name == "jsonlog":
        return jsonlog
    if name == "csvlog":
        return csvlog
    if name == "pgbouncer":
        return PgBouncer(zone)
    if name == "stderr":
        return Stderr(chosen(prefix), zone)
    if name == "syslog":
        return Syslogged(Stderr(chosen(prefix or ""), zone))
    return Auto(job, prefix, zone)


def format_of(reader: Reader, entry: Mapping[str, Node], job: str) -> str | Format:
    """The format of a scrape_config by its keys KEYS; "plain" without them. The reader is told what is wrong."""
    given = {key: reader.text(entry.get(key), key) for key in KEYS}
    name = given["format"]
    if name is None:
        for key in KEYS[1:]:
            if given[key] is not None:
                reader.problem(entry[key], f"{key} is for PostgreSQL's logs", "add `format: postgres` beside it")
        return "plain"
    try:
        return postgres_format(name, job, given["log_line_prefix"], given["timezone"], given["redact"])
    except ValueError as error:
        reader.problem(entry["format"], f"job {job!r}: {error}", "docs/postgres-logs.md tells what can be given")
        return "plain"
