"""`python -m bench`: what is measured, and in which order."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx

from atalaia.environment.errors import AtalaiaError, InputError
from bench import ask, backup, collect, compiling, dashboard, ingest, logs, loki, startup, table, tools
from bench.place import Place, workplace
from bench.service import serving
from bench.table import Row


def main() -> None:
    """Measure and print."""
    options = _options()
    try:
        with workplace(options.data, options.folder) as place:
            rows = _measure(options, place)
    except AtalaiaError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except httpx.HTTPError as error:
        sys.exit(f"bench: the store does not answer: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    print(
        table.as_json(rows)
        if options.json
        else table.render(rows, tools.searcher(), options.against.partition("//")[2])
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Prints a table of speeds. See docs/benchmarks.md."
    )
    parser.add_argument("--lines", type=int, default=4_000_000, help="lines of the PostgreSQL log (4,000,000)")
    parser.add_argument(
        "--files", type=int, default=10, help="files of a million lines, and a hundredth of the idle ones (10)"
    )
    parser.add_argument("--file", type=Path, help="take this PostgreSQL log instead of making one")
    parser.add_argument("--only", choices=("up", "ingest", "query", "load", "collect", "backup"), help="only this part")
    parser.add_argument(
        "--against", default="", metavar="URL", help="a Loki that is fed the same logs and asked the same"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep logs and store there, and use them again")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where temporary files are made")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.lines < 1:
        parser.error("--lines is a number from 1")
    options.against = options.against.rstrip("/")
    return options


def _measure(options: argparse.Namespace, place: Place) -> list[Row]:
    rows = []
    if options.only not in ("up", "load", "collect", "backup"):
        rows += _logs(options, place)
    if options.only in (None, "load"):
        _tell("opening dashboards")
        made = logs.make(place.logs, options.lines, options.file)
        rows += compiling.measure(place.scratch / "compiling")
        rows += dashboard.measure(place.scratch / "dashboard", place.scratch, made[0])
    if options.only in (None, "collect"):
        _tell("collecting through other pipelines")
        made = logs.make(place.logs, options.lines, options.file)
        rows += collect.measure(place.scratch / "collect", made, options.files)
    if options.only == "backup":
        rows += backup.measure(place.kept / "backup", place.scratch / "backup")
    if options.only in (None, "up"):
        _tell("starting environments")
        rows += startup.measure(place.scratch / "home")
    return rows


def _logs(options: argparse.Namespace, place: Place) -> list[Row]:
    if options.file:
        _check(options.file)
    content = {"lines": None if options.file else options.lines, "file": options.file and str(options.file.resolve())}
    place.check(content)
    _tell("writing logs")
    made = logs.make(place.logs, options.lines, options.file)
    scale = tools.measure(made[0].files[0])
    rows = [Row("reference log", made[0].size / 1e6, "MB", note=f"{tools.lines(made[0].files):,} lines"), *scale.rows]
    if options.against:
        _tell(f"feeding {options.against}")
        rows += loki.feed(options.against, place.scratch, made)
    fresh = not place.filled
    if options.only != "query" or fresh:
        _tell("collecting")
        found = ingest.fill(place.store if fresh else place.scratch / "again", place.scratch, made, scale)
        place.mark(content)
        if options.only != "query":
            rows += found
            rows.append(ingest.time_only(place.scratch / "time", place.scratch, made[0], scale))
            rows.append(ingest.store_alone(place.scratch / "alone", place.scratch, made[0]))
    if options.only != "ingest":
        _tell("asking")
        with serving(place.store) as store:
            rows += ask.measure(store, made, place.scratch, scale, options.against)
    return rows


def _check(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"--file {file} is not a file", "name a PostgreSQL log, or leave it out")
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 1))
        if log.read() != b"\n":
            raise InputError(f"--file {file} does not end with a newline", "cut it behind its last whole line")


def _tell(what: str) -> None:
    print(f"bench: {what} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
