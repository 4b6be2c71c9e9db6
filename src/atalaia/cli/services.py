"""serve: the log store alone, in the foreground; and what `up` supervises."""

from __future__ import annotations

import ipaddress
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from atalaia.cli.common import environment_of, unwritten
from atalaia.environment.errors import InputError
from atalaia.runtime import memory


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(serve)
    app.command(hidden=True)(supervise)


def serve(
    data: Annotated[Path | None, typer.Option("--data", help="The store's directory.", show_default=False)] = None,
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT to listen on.")] = "127.0.0.1:3100",
    retention_age: Annotated[str | None, typer.Option(help="Remove entries older than this, such as 30d.")] = None,
    retention_size: Annotated[
        str | None, typer.Option(help="Remove the oldest beyond this size, such as 10GiB.")
    ] = None,
    retention_rule: Annotated[
        list[str] | None,
        typer.Option(help="Bounds of some streams, such as 'age=7d {job=\"varlogs\"}'; may be repeated."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, a limit as in [logs.limits]; may be repeated.")
    ] = None,
    rules: Annotated[
        list[str] | None, typer.Option(help="Rule files, such as 'rules/*.yaml'; may be repeated.", show_default=False)
    ] = None,
    alertmanager: Annotated[
        list[str] | None, typer.Option(help="URL of an Alertmanager; may be repeated.", show_default=False)
    ] = None,
    remote_write: Annotated[
        str | None, typer.Option(help="URL that takes recorded samples.", show_default=False)
    ] = None,
    access: Annotated[
        Path | None, typer.Option(help="Who may ask, as `atalaia access add --access FILE` writes it.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file: the certificate, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file: its key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file: who signed the certificates that clients must show.")
    ] = None,
    http: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE as in [logs.http], about slow clients; may be repeated.")
    ] = None,
    environment: Annotated[Path | None, typer.Option("--environment", hidden=True)] = None,
) -> None:
    """Run the log store alone.

    Loki's HTTP API over the files in --data, in the foreground.
    """
    memory.configure()
    from atalaia.api.server import Address, serve
    from atalaia.cli.front import front_of, given_front
    from atalaia.cli.limits import parse_limits, query_limits, store_options
    from atalaia.cli.retention import parse_rule, retention
    from atalaia.cli.ruling import plan_of, plan_of_options
    from atalaia.runtime.logs import configure

    if environment is not None:
        found = environment_of(environment) if environment.exists() else unwritten(environment)
        ports = found.state.remembered().get("ports", {})
        configure("store", found.state.own_logs / "store.log")
        logs = found.settings.logs
        address = Address(logs.listen, ports["store"])
        ruling = plan_of(found)
        data, limits, front = found.store_directory, logs.limits, front_of(found)
        bounds = retention(logs.retention_age, logs.retention_size, logs.retention)
    else:
        if data is None:
            raise InputError("serve needs --data DIR", "for example: atalaia serve --data logs --listen 127.0.0.1:3100")
        configure("store", None)
        address = parse_address(listen)
        limits = parse_limits(limit or [])
        front = given_front(access, tls_cert, tls_key, tls_client_ca, http or [])
        bounds = retention(retention_age, retention_size, [parse_rule(text) for text in retention_rule or ()])
        ruling = plan_of_options(rules or [], alertmanager or [], remote_write)
    if data.exists() and not data.is_dir():
        raise InputError(f"--data {data} is not a directory")
    serve(data, address, store_options(limits, bounds), query_limits(limits), front, ruling)


def parse_address(text: str) -> Address:  # type: ignore[name-defined]  # noqa: F821 - imported where it is used, to start fast
    """HOST:PORT, `[::1]:3100` for IPv6. Raises InputError."""
    from atalaia.api.server import Address

    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--listen {text!r} is not HOST:PORT", "for example 127.0.0.1:3100 or [::1]:3100")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise InputError(f"--listen {text!r}: {host!r} is not an IP address") from error
    return Address(host, int(port))


def supervise(environment: Annotated[Path, typer.Option("--environment")]) -> None:
    """The supervisor itself, as `up` starts it."""
    from atalaia.runtime.logs import configure
    from atalaia.supervisor.layout import recall
    from atalaia.supervisor.supervisor import Supervisor

    found = environment_of(environment) if environment.exists() else unwritten(environment)
    layout = recall(found)
    if layout is None:
        raise InputError("this environment was never decided", "run `atalaia up`")
    configure("supervisor", found.state.own_logs / "supervisor.log")
    supervisor = Supervisor(layout)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()
    sys.stdout.flush()
