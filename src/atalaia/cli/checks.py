"""What `atalaia doctor` looks at. Every check says what was found and what to do."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment
from atalaia.environment.units import show_size

_ROOM = 2 << 30  # bytes of free disk below which servers and store are at risk


@dataclass(frozen=True, slots=True)
class Check:
    """One result."""

    name: str
    good: bool
    found: str
    remedy: str = ""


def run_checks(environment: Environment) -> list[Check]:
    """All checks, in the order in which a start needs them."""
    checks: list[tuple[str, Callable[[Environment], Check]]] = [
        ("system", _system),
        ("configuration", _configuration),
        ("account", _account),
        ("binaries", _binaries),
        ("ports", _ports),
        ("disk", _disk),
        ("secrets", _secrets),
        ("targets", _targets),
        ("services", _services),
        ("log store", store_check),
        ("backups", _backups),
    ]
    results = []
    for name, check in checks:
        try:
            results.append(check(environment))
        except AtalaiaError as error:
            results.append(Check(name, False, error.what, error.remedy))
        except OSError as error:
            results.append(Check(name, False, str(error), "see that you may read it"))
    return results


def _system(_: Environment) -> Check:
    good = hasattr(os, "pidfd_open") and Path("/proc/self/stat").exists()
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return Check("system", good, found, "Atalaia needs Linux 5.4 or newer with /proc")


def _configuration(environment: Environment) -> Check:
    count = len(environment.settings.servers)
    what = str(environment.file) if environment.file.is_file() else "no atalaia.toml: the default environment"
    return Check("configuration", True, f"{what}, {count} servers")


def _account(environment: Environment) -> Check:
    from atalaia.runtime.accounts import server_account

    account = server_account(environment.settings.runtime.account)
    if account is None:
        return Check("account", True, "servers run as you do")
    if account.name == "nobody":
        remedy = "useradd --system --home-dir /nonexistent postgres"
        return Check("account", True, f"servers run as nobody; an account of their own is better ({remedy})")
    return Check("account", True, f"servers run as {account.name}, since you are root")


def _binaries(environment: Environment) -> Check:
    from atalaia.postgres.binaries import find

    found = []
    for name, server in environment.settings.servers.items():
        installation = find(server.version, environment.resolve(server.binaries) if server.binaries else None)
        found.append(f"{name}: PostgreSQL {installation.version} ({installation.origin})")
    return Check("binaries", True, "; ".join(found))


def _ports(environment: Environment) -> Check:
    from atalaia.supervisor.layout import decide

    if not environment.state.file.exists():
        return Check("ports", True, "none chosen yet")
    decided = decide(environment)
    found = [f"{name} {cluster.port}" for name, cluster in decided.clusters.items()]
    if decided.store_port:
        found.append(f"store {decided.store_port}")
    return Check("ports", True, ", ".join([*found, *decided.notices]))


def _disk(environment: Environment) -> Check:
    folder = environment.folder
    free = shutil.disk_usage(folder).free
    return Check(
        "disk",
        free > _ROOM,
        f"{show_size(free)} free at {folder}",
        "free some: a full disk stops servers and store",
    )


def _secrets(environment: Environment) -> Check:
    folder = environment.state.secrets
    loose = [path.name for path in folder.glob("*") if path.stat().st_mode & 0o077] if folder.is_dir() else []
    return Check(
        "secrets",
        not loose,
        f"readable by others: {', '.join(loose)}" if loose else "readable by you alone",
        f"chmod 600 {folder}/*",
    )


def _targets(environment: Environment) -> Check:
    from atalaia.collector.plan import Target

    found, unreadable = 0, []
    for pattern in environment.settings.collection.targets:
        for path in Target(str(environment.resolve(Path(pattern))), {}).paths():
            found += 1
            if not os.access(path, os.R_OK):
                unreadable.append(path)
    if unreadable:
        return Check(
            "targets",
            False,
            f"{len(unreadable)} of {found} files cannot be read, {unreadable[0]} first",
            "join the group that may read them (often adm), or run as root",
        )
    return Check("targets", True, f"{found} files")


def _services(environment: Environment) -> Check:
    from atalaia.supervisor.launch import report

    services = report(environment)["services"]
    bad = [f"{s['name']} is {s['state']}" for s in services if s["state"] != "ready"]
    if not services:
        return Check("services", True, "never started")
    return Check("services", not bad, ", ".join(bad) or f"all {len(services)} ready", "`atalaia up` starts them")


def store_check(environment: Environment) -> Check:
    """Whether the store, as far as it runs, met damaged segments."""
    from atalaia.cli.connection import client_of
    from atalaia.client.loki import LogsUnreachable

    if environment.settings.logs.url:
        return Check("log store", True, f"the Loki at {environment.settings.logs.url}")
    if not environment.state.remembered().get("ports", {}).get("store"):
        return Check("log store", True, "never started")
    client = client_of(environment)
    try:
        damaged = client.damaged()
    except LogsUnreachable:
        return Check("log store", True, "it does not run")
    finally:
        client.close()
    if not damaged:
        return Check("log store", True, "no damage was met")
    found = f"{len(damaged)} damaged segments are left out of answers, {damaged[0]} first"
    return Check("log store", False, found, "`atalaia down`, then `atalaia store repair`")


def _backups(environment: Environment) -> Check:
    from atalaia.backup.keeping.gather import check, gather
    from atalaia.backup.keeping.promise import judge

    facts = gather(environment)
    if facts.problem is None:
        facts = gather(environment, check(environment, facts.backups))
    if red := judge(facts):
        said = "; ".join(f"{reason.server + ': ' if reason.server else ''}{reason.text}" for reason in red)
        return Check("backups", False, said, "; ".join(dict.fromkeys(reason.remedy for reason in red)))
    said = "as promised" if facts.watched else "nothing is promised"
    return Check("backups", True, f"kept in {environment.repositories[0]}; {said}")
