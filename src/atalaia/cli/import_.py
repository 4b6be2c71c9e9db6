"""import: push log files that people have in hand to a running store."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import FileOption, JsonOption, environment_of, print_json, show_time
from atalaia.cli.connection import CaOption, PasswordFileOption, TokenFileOption, UserOption, connection_of
from atalaia.cli.progress import Meter
from atalaia.environment.errors import InputError
from atalaia.environment.units import show_size
from atalaia.runtime import memory

if TYPE_CHECKING:
    from atalaia.client.pusher import Pusher
    from atalaia.collector.importing.importer import Imported
    from atalaia.collector.importing.reader import Reading
    from atalaia.environment.load import Environment

_TENANT = "fake"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("import")(import_)


def import_(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Log files, folders, archives; - for standard input.")
    ],
    job: Annotated[str, typer.Option(help="The label `job` of all entries.")] = "import",
    label: Annotated[
        list[str] | None, typer.Option(help="A further label, NAME=VALUE; may be repeated.", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="What the lines are, instead of finding out.")] = "auto",
    zone: Annotated[
        str | None,
        typer.Option("--timezone", help="Of times without one: UTC, local, +02:00, Europe/Lisbon.", show_default=False),
    ] = None,
    year: Annotated[
        int | None, typer.Option(help="Of times without one (default: the last before the file's).", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only entries from then on: RFC 3339, or seconds or ns.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only entries before then.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is recognised; push nothing.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose entries they become.")] = _TENANT,
    url: Annotated[
        str | None, typer.Option(help="The store to push to (default: the environment's).", show_default=False)
    ] = None,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Push old log files, archives and captures of `docker compose logs` to the running store.

    Each line's container, time and level are found in it. Run again, also after it was cut off, or when the files have
    grown, it stores nothing twice. Exit code 1 when something could not be imported.
    """
    memory.configure()
    from atalaia.client.pusher import Pusher
    from atalaia.collector.importing import files

    reading = _reading(job, label or [], form, zone, year, since, until)
    if dry_run:
        pusher = None
    else:
        environment = environment_of(file)
        to = connection_of(environment, url, user=user, password_file=password_file, token_file=token_file, ca=ca)
        with contextlib.closing(Pusher(to, sleep=lambda _: None)) as probe:
            probe.positions([])  # whether there is a store, before anything is read
        pusher = Pusher(to)
    done: list[Imported] = []
    failed: list[files.Unreadable] = []
    try:
        _import_all(paths, reading, zone, pusher, tenant, done, failed)
    finally:
        if pusher:
            pusher.close()
        if as_json:
            print_json({"files": [_data(one) for one in done], "unreadable": [_unreadable(one) for one in failed]})
        else:
            _show(done, dry_run)
            for wrong in failed:
                print(f"{wrong.name}: {wrong.problem}", file=sys.stderr)
    if pusher and not url:
        _warn_of_retention(environment, done)
    if failed or any(one.refused or one.damaged for one in done):
        raise typer.Exit(1)
    if not done:
        raise InputError("there is nothing to import", "the folders named hold no files")


def _import_all(
    paths: list[str],
    reading: Reading,
    zone: str | None,
    pusher: Pusher | None,
    tenant: str,
    done: list[Imported],
    failed: list[Any],
) -> None:
    from atalaia.collector.importing import files
    from atalaia.collector.importing.importer import import_text, inspect

    texts = files.Texts(paths, sys.stdin.buffer)
    with Meter("read" if pusher is None else "imported", "B") as meter:
        for found in texts:
            if isinstance(found, files.Unreadable):
                failed.append(found)
                continue

            def tell(name: str = found.base) -> None:
                meter.update(texts.done, texts.total, name)

            try:
                if pusher is None:
                    one = inspect(found, reading, tell)
                else:
                    one = import_text(found, reading, zone, pusher, tenant, tell)
            except InputError as error:
                failed.append(files.Unreadable(found.name, "; ".join(line.strip() for line in str(error).splitlines())))
                continue
            done.append(one)


def _reading(
    job: str, given: list[str], form: str, zone: str | None, year: int | None, since: str | None, until: str | None
) -> Reading:
    from atalaia.cli.logs import moment
    from atalaia.collector.importing.reader import Reading, check_format
    from atalaia.collector.importing.times import timezone_of

    check_format(form)
    labels = {"job": job}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier() or not name.isascii() or not value:
            raise InputError(f"--label {text!r} is not NAME=VALUE", "for example: --label host=web1")
        if name in ("container", "filename", "severity", "level"):
            raise InputError(f"--label {name}: this label is found in the lines", "take another name")
        labels[name] = value
    if year is not None and not 1970 <= year <= 2261:
        raise InputError(f"--year {year} is not from 1970 to 2261")
    start, end = (moment(text, name) if text else None for text, name in ((since, "--since"), (until, "--until")))
    if start is not None and end is not None and start >= end:
        raise InputError("the time asked for is empty: --since is not before --until")
    return Reading(labels, form, timezone_of(zone) if zone else None, year, start, end)


def _show(done: list[Imported], dry_run: bool) -> None:
    """What was found in each text, and what became of it."""
    for one in done:
        if dry_run:
            _show_found(one)
            continue
        parts = [f"{one.stored:,} entries stored"]
        if one.known:
            parts.append(f"{show_size(one.known)} were known before")
        if one.refused:
            parts.append(f"{one.refused:,} refused")
        when = f"; {' to '.join(_span(one))}" if one.summary.entries else ""
        print(f"{one.name}: {', '.join(parts)}{when}")
        for text in _told(one):
            print(f"{one.name}: {text}", file=sys.stderr)


def _show_found(one: Imported) -> None:
    summary = one.summary
    print(f"{one.name}: {summary.entries:,} entries, {' to '.join(_span(one))}")
    if summary.levels:
        print(f"  levels: {', '.join(f'{name} {count:,}' for name, count in summary.levels.most_common())}")
    found = summary.kinds.most_common()
    widths = [max((len(key[at]) for key, _ in found), default=0) for at in (0, 1)]
    room = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None
    for (name, kind), count in found:
        line = f"  {name or '-':{widths[0]}}  {kind:{widths[1]}}  {count:>9,}  {summary.samples[name, kind]}"
        print(line[:room])
    for text in _told(one):
        print(f"  {text}")


def _told(one: Imported) -> list[str]:
    """What else is to be said of a text."""
    found = []
    for (name, service), (count, example) in one.summary.strange.items():
        found.append(
            f"{count:,} entries of container {name} are {service}'s by their content "
            f'(kept under {name}, with recognised="{service}"), such as: {example}'
        )
    found += one.summary.told()
    if one.message:
        found.append(one.message)
    return found


def _span(one: Imported) -> list[str]:
    first, last = one.summary.first, one.summary.last
    return ["-", "-"] if first is None or last is None else [show_time(first), show_time(last)]


def _data(one: Imported) -> dict[str, Any]:
    names = ("name", "stored", "refused", "known", "size", "message", "damaged")
    return {name: getattr(one, name) for name in names} | one.summary.data()


def _unreadable(one: Any) -> dict[str, str]:
    return {"name": one.name, "problem": one.problem}


def _warn_of_retention(environment: Environment, done: list[Imported]) -> None:
    """Entries older than what is kept will be removed at once."""
    import time

    from atalaia.environment.units import parse_duration

    logs = environment.settings.logs
    ages = [age for age in (logs.retention_age, *(rule.age for rule in logs.retention)) if age]
    oldest = min((one.summary.first for one in done if one.stored and one.summary.first is not None), default=None)
    if oldest is None:
        return
    for age in ages:
        if time.time_ns() - oldest > parse_duration(age):
            print(
                f"some entries are older than {age}, after which this environment's store removes entries: "
                "raise retention_age in atalaia.toml, or import them into a store of their own",
                file=sys.stderr,
            )
            return
