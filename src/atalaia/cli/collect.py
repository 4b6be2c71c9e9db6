"""collect: the collector alone, as a promtail.yaml says, with Promtail's flags; and its dry runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from atalaia.cli.common import environment_of, unwritten
from atalaia.environment.errors import AtalaiaError, ConfigurationError, InputError
from atalaia.runtime import memory

if TYPE_CHECKING:
    from atalaia.collector.plan import Plan
    from atalaia.collector.promtail.given import Given
    from atalaia.collector.promtail.load import Loaded

log = logging.getLogger("atalaia.collector")


class _Flags(typer.core.TyperCommand):
    """Takes Promtail's flags in place of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click.Command."""
        from atalaia.collector.promtail.flags import translated

        return super().parse_args(ctx, translated(args))


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(cls=_Flags)(collect)


def collect(
    config: Annotated[
        str | None, typer.Option("--config", help="A promtail.yaml (-config.file).", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file, and show what it reads now.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent; no position moves.")] = False,
    inspect: Annotated[bool, typer.Option("--inspect", help="A dry run that shows each stage's changes.")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Collect standard input through the first job.")] = False,
    expand_env: Annotated[bool, typer.Option("--expand-env", help="Replace ${VAR} in the file.")] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the file, such as server.http_listen_port=0; may be repeated."),
    ] = None,
    external_labels: Annotated[
        str | None, typer.Option(help="name=value,… for every client.", show_default=False)
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Write the file as it is understood to standard error.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", hidden=True)] = False,
    unused: Annotated[list[str] | None, typer.Option("--unused", hidden=True)] = None,
    environment: Annotated[Path | None, typer.Option("--environment", hidden=True)] = None,
) -> None:
    """Run the collector alone.

    As a promtail.yaml says, in the foreground. Promtail's own flags are taken, too.
    """
    memory.configure()
    from atalaia.collector.promtail.given import Given, label_pairs
    from atalaia.runtime.logs import configure

    if version:
        from atalaia import __version__

        typer.echo(f"atalaia {__version__}")
        return
    if environment is not None:
        _collect_environment(environment)
        return
    settings = dict(_pair(text) for text in setting or ())
    if config is None and stdin:
        config = os.devnull  # as Promtail's: a pipe and -client.url are enough
        settings.setdefault("positions.filename", str(Path.cwd() / "promtail-stdin.positions"))
    if config is None:
        raise InputError("collect needs --config FILE", "for example: atalaia collect --config promtail.yaml")
    given = Given(
        expand_env,
        settings,
        label_pairs(external_labels) if external_labels else {},
        tuple(unused or ()),
        stdin,
        inspect,
    )
    configure("collector", None)
    path = _existing(config)
    if check:
        _check(path, given)
        return
    loaded = _read(path, given)
    if print_config:
        print(loaded.text, file=sys.stderr, end="")
    if dry_run or inspect:
        from atalaia.cli.trial import try_out

        try_out(loaded, inspect)
        return
    _collect(path, given, loaded)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text!r} is not KEY=VALUE", "for example --set server.http_listen_port=9080")
    return name, value


def _existing(config: str) -> Path:
    """The first file of a list with commas that is there, as Promtail chooses it."""
    names = [name.strip() for name in config.split(",")]
    return next((Path(name) for name in names if Path(name).exists()), Path(names[0]))


def _read(path: Path, given: Given) -> Loaded:
    from atalaia.collector.promtail.load import read, tell

    loaded = read(path, given=given)
    logging.getLogger().setLevel(loaded.level)
    tell(loaded.remarks)
    return loaded


def _check(path: Path, given: Given) -> None:
    from atalaia.cli.trial import describe
    from atalaia.collector.promtail.load import read

    try:
        loaded = read(path, given=given)
    except ConfigurationError as error:
        print(f"atalaia: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print("\n".join(describe(path, loaded)))


def _collect(path: Path, given: Given, loaded: Loaded) -> None:
    """Collect until a signal; SIGHUP begins anew with the file as it is then, if that is good."""
    from atalaia.collector.collecting import places
    from atalaia.collector.promtail.takeover import enter, enter_cursors

    fresh = loaded
    ending = threading.Event()

    def reload(stop: Callable[[], None]) -> None:
        nonlocal fresh
        try:
            fresh = _read(path, given)
        except AtalaiaError as error:
            log.error("event=reload_failed file=%s reason=%r", path, str(error))
        else:
            log.info("event=reloading file=%s", path)
            stop()

    while fresh is not None and not ending.is_set():
        now, fresh = fresh, None  # type: ignore[assignment]
        if now.before:
            enter_cursors(now.plan, now.before)
            for place in places(now.plan):
                if not place.exists():
                    enter(now.plan, now.before, place)
        _run(now.plan, ending, reload=reload, config=now.text)


def _run(
    plan: Plan,
    ending: threading.Event,
    ready: Path | None = None,
    reload: Callable[[Callable[[], None]], None] | None = None,
    config: str = "",
    state: Path | None = None,
) -> None:
    from atalaia.collector.collecting import Collecting
    from atalaia.collector.showing import View

    def reread() -> None:
        if reload is not None:
            threading.Thread(target=reload, args=(collector.stop,), name="reload", daemon=True).start()

    view = View(config, state, reread)
    collector = Collecting(plan, on_ready=(lambda: _mark(ready)) if ready else None, view=view)

    def end(*_: object) -> None:
        ending.set()
        collector.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if reload is not None:
        # Not within the signal's handler, which may have interrupted anything.
        signal.signal(signal.SIGHUP, lambda *_: reread())
    if ending.is_set():  # between two runs
        collector.stop()
    collector.run()


def _collect_environment(file: Path) -> None:
    from atalaia.collector.own import environment_plan
    from atalaia.collector.statefile import FILE_NAME
    from atalaia.runtime.logs import configure
    from atalaia.supervisor.layout import recall

    found = environment_of(file) if file.exists() else unwritten(file)
    layout = recall(found)
    if layout is None:
        raise InputError("this environment was never brought up", "run `atalaia up`")
    configure("collector", found.state.own_logs / "collector.log")
    directories = {name: cluster.directory for name, cluster in layout.clusters.items()}
    plan = environment_plan(found, directories, layout.connection)
    ready = found.state.run / "collector.ready"
    ready.unlink(missing_ok=True)
    _run(plan, threading.Event(), ready, state=found.state.collector / FILE_NAME)


def _mark(ready: Path) -> None:
    from atalaia.environment.state import write_atomically

    write_atomically(ready, f"{os.getpid()}\n")
