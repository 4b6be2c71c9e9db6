"""init, up, down, status, psql, doctor: the environment as a whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from atalaia.cli.common import (
    FileOption,
    JsonOption,
    command_name,
    console,
    environment_of,
    print_json,
    table,
)
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import FILE_NAME, Environment
from atalaia.environment.template import TEXT

_COLOURS = {"ready": "green", "failed": "red", "restarting": "red", "stopped": "dim"}
_PATIENCE = 180.0  # seconds that `up` waits for everything


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (init, up, down, status, psql, doctor):
        app.command(
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True} if command is psql else None
        )(command)


def init(
    directory: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
    show: Annotated[bool, typer.Option("--print", help="Print it instead.")] = False,
) -> None:
    """Write an atalaia.toml.

    It has the seed's environment, two PostgreSQL 16 servers, and every setting with its default.
    """
    if show:
        print(TEXT, end="")
        return
    path = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEXT)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; it was not touched", "edit it, or remove it first") from error
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    print(f"wrote {path}; `{command_name()} up` starts what it describes")


def up(
    file: FileOption = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay attached; Ctrl-C brings everything down.")
    ] = False,
) -> None:
    """Start everything; return when it is ready.

    Servers, log store and collector; what runs already is left alone.
    """
    from atalaia.supervisor import launch, layout

    environment = environment_of(file, rules=True)
    decided = layout.decide(environment)
    for notice in decided.notices:
        print(notice)
    began = time.monotonic()
    if foreground:
        _in_foreground(environment, decided, began)
        return
    already = launch.running(environment) is not None
    try:
        launch.launch(environment)
        report = _await_ready(environment, "retry" if already else "watch")
    except KeyboardInterrupt:
        print("\ninterrupted; stopping what was started", file=sys.stderr)
        if not already:
            launch.bring_down(environment, lambda _: None)
        raise
    _print_ready(environment, report, time.monotonic() - began)


def _in_foreground(environment: Environment, decided: Any, began: float) -> None:
    from atalaia.runtime.logs import configure
    from atalaia.supervisor.supervisor import Supervisor

    configure("supervisor", environment.state.own_logs / "supervisor.log")
    supervisor = Supervisor(decided)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())

    def announce() -> None:
        try:
            _print_ready(environment, _await_ready(environment, "watch"), time.monotonic() - began)
            print("Ctrl-C brings everything down.")
            sys.stdout.flush()
        except AtalaiaError as error:
            print(f"atalaia: {error}", file=sys.stderr)

    threading.Thread(target=announce, daemon=True).start()
    supervisor.run()
    print("all stopped")


def _await_ready(environment: Environment, operation: str) -> dict[str, Any]:
    """Follow the start until everything is ready. Raises AtalaiaError when something cannot start."""
    from atalaia.supervisor import launch

    deadline = time.monotonic() + _PATIENCE
    told: dict[str, str] = {}
    grace = time.monotonic() + 1.0
    for report in launch.watch(environment, operation):
        services = report["services"]
        for service in services:
            if told.get(service["name"]) != service["state"]:
                told[service["name"]] = service["state"]
                _progress(f"{service['name']}: {service['state']}")
        if report["stopping"]:
            raise AtalaiaError("the environment is being brought down", "`atalaia up` again once it is")
        failed = [s for s in services if s["state"] == "failed"]
        if failed and time.monotonic() > grace and not any(s["state"] == "starting" for s in services):
            kind = InputError if all(s["wrong_input"] for s in failed) else AtalaiaError
            raise kind(
                "\n".join(f"{s['name']}: {s['message']}" for s in failed),
                "the others run; put it right and run `atalaia up` again",
            )
        looping = [s for s in services if s["restarts"] >= 5 and s["state"] != "ready"]
        if looping:
            raise AtalaiaError(
                "\n".join(f"{s['name']} does not stay up: {s['message']}" for s in looping),
                f"see the logs in {environment.state.own_logs}",
            )
        if all(s["state"] == "ready" for s in services):
            return report
        if time.monotonic() > deadline:
            late = ", ".join(f"{s['name']} ({s['state']}: {s['message']})" for s in services if s["state"] != "ready")
            raise AtalaiaError(
                f"not ready after {_PATIENCE:.0f} s: {late}",
                "they go on starting; `atalaia status` shows how far they are",
            )
    raise AtalaiaError("the supervisor ended while starting", f"see {environment.state.own_logs}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for s in report["services"]:
        colour = _COLOURS.get(s["state"], "yellow")
        state = f"[{colour}]{s['state']}[/{colour}]"
        rows.append([s["name"], state, s["version"] or "-", s["address"], s["directory"]])
    return rows


def _print_ready(environment: Environment, report: dict[str, Any], seconds: float) -> None:
    from atalaia.supervisor import layout

    screen = console()
    screen.print(table(("SERVICE", "STATE", "VERSION", "ADDRESS", "DATA DIRECTORY"), _rows(report)))
    decided = layout.recall(environment)
    clusters = decided.clusters if decided else {}
    screen.print()
    from atalaia.postgres import connect

    for cluster in clusters.values():
        screen.print(f"{connect.dsn(cluster)}   password in {_short(cluster.password_file)}", markup=False)
    first = next(iter(clusters), None)
    me = command_name()
    screen.print(f"\nReady in {seconds:.1f} s. Three things to try:", markup=False)
    if first:
        screen.print(f"  {me} psql {first}", markup=False)
    screen.print(f"  {me} logs -f", markup=False)
    screen.print(f"  {me} query 'sum by (server, severity) (count_over_time({{job=\"postgres\"}}[1h]))'", markup=False)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def down(file: FileOption = None) -> None:
    """Stop everything cleanly; tells what it waits for."""
    from atalaia.supervisor import launch

    environment = environment_of(file)
    told: set[tuple[str, str]] = set()

    def tell(report: dict[str, Any]) -> None:
        for service in report["services"]:
            key = (service["name"], service["state"])
            if service["state"] in ("stopping", "stopped") and key not in told:
                told.add(key)
                print(
                    f"{service['name']}: {'waiting for it to stop' if service['state'] == 'stopping' else 'stopped'}",
                    flush=True,
                )

    launch.bring_down(environment, tell)
    print("all stopped" if told else "nothing runs")


def status(file: FileOption = None, as_json: JsonOption = False) -> None:
    """Show every service.

    State, version, address and data directory. Exit code 1 unless all are ready, and backups as promised.
    """
    from atalaia.cli.backup_state import as_data, look
    from atalaia.cli.checks import store_check
    from atalaia.cli.collected import lag_lines, with_lag
    from atalaia.supervisor import launch

    environment = environment_of(file)
    report = launch.report(environment)
    facts, red = look(environment)
    if as_json:
        print_json({**with_lag(environment, report), "backups": as_data(facts, red)})
    elif not report["services"]:
        print(f"this environment was never started; `{command_name()} up` starts it")
    else:
        screen = console()
        screen.print(table(("SERVICE", "STATE", "VERSION", "ADDRESS", "DATA DIRECTORY"), _rows(report)))
        for s in report["services"]:
            screen.print(f"{s['name']}: {s['message']}\n" if s["message"] else "", end="", markup=False)
            if s["restarts"]:
                screen.print(f"{s['name']}: restarted {s['restarts']} times", markup=False)
        if not report["supervisor"]:
            screen.print(f"no supervisor runs; `{command_name()} up` starts one")
        if not (store := store_check(environment)).good:
            screen.print(f"store: {store.found}; {store.remedy}", markup=False)
        for line in (*lag_lines(environment, report), *(f"backups: {reason}" for reason in red)):
            screen.print(line, markup=False)
    if red or not report["services"] or any(s["state"] != "ready" for s in report["services"]):
        raise typer.Exit(1)


def psql(
    context: typer.Context,
    server: Annotated[str, typer.Argument(help="The server's name.")],
    file: FileOption = None,
) -> None:
    """Open psql on a server.

    As its superuser; further arguments go to psql.
    """
    from atalaia.postgres import connect, tools
    from atalaia.supervisor import layout

    environment = environment_of(file)
    if server not in environment.settings.servers:
        raise InputError(f"there is no server {server!r}", f"there are: {', '.join(environment.settings.servers)}")
    found = layout.recall(environment)
    if found is None:
        raise InputError("this environment was never started", f"run `{command_name()} up`")
    cluster = found.clusters[server]
    program = cluster.installation.program("psql")
    sys.stdout.flush()
    os.execve(
        program,
        [str(program), *context.args],
        {**tools.variables(), **connect.environment_variables(cluster)},
    )


def doctor(file: FileOption = None, as_json: JsonOption = False) -> None:
    """Check what an environment needs.

    Says what was found, and what to do where something is missing. Exit code 1 then.
    """
    from atalaia.cli.checks import run_checks

    results = run_checks(environment_of(file))
    if as_json:
        print_json([{"check": r.name, "good": r.good, "found": r.found, "remedy": r.remedy} for r in results])
    else:
        screen = console()
        for r in results:
            mark = "[green]good[/green]" if r.good else "[red]BAD [/red]"
            screen.print(f"{mark}  {r.name}: ", end="")
            screen.print(r.found, markup=False)
            if r.remedy and not r.good:
                screen.print(f"      {r.remedy}", markup=False)
    if not all(r.good for r in results):
        raise typer.Exit(1)
