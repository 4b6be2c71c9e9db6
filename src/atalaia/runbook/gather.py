"""Finds out the facts of a running environment: from its supervisor, servers, log store and backup catalogue."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import psycopg

from atalaia import __version__
from atalaia.backup import service as backups
from atalaia.backup.site import of as site_of
from atalaia.client.loki import LokiClient
from atalaia.diagnosis.diagnose import diagnose
from atalaia.diagnosis.language import Language
from atalaia.environment.backing import remote
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment
from atalaia.environment.ports import STORE
from atalaia.environment.template import TEXT
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.runbook.facts import BackupFacts, Commands, Fact, RunbookFacts, ServiceFacts, StoreFacts, Unknown
from atalaia.supervisor.launch import report
from atalaia.supervisor.layout import BACKUP, COLLECTOR, Layout

_DAY = 86_400 * 10**9
_ALL = '{job=~".+"}'
_SAYS = {
    "en": {
        "down": "the server does not run",
        "store": "the log store did not answer",
        "empty": "nothing is stored yet",
        "remote": "the log store is another machine's",
        "any": "without bound",
        "proof": "no restore test has passed",
        "size": "the dump was not finished",
        "never": "the environment was never started",
    },
    "pt-BR": {
        "down": "o servidor não está em execução",
        "store": "o armazém de logs não respondeu",
        "empty": "ainda não há nada armazenado",
        "remote": "o armazém de logs é de outra máquina",
        "any": "sem limite",
        "proof": "nenhum teste de restauração passou",
        "size": "o dump não terminou",
        "never": "o ambiente nunca foi iniciado",
    },
}


def gather(environment: Environment, layout: Layout, language: Language, since: int, command: str) -> RunbookFacts:
    """The facts now; problems are those of the last `since` ns. `command` is how a user calls atalaia."""
    says = _SAYS[language]
    logs = LokiClient(layout.connection)
    try:
        now = time.time_ns()
        found = report(environment)
        services = tuple(_service(s, layout, logs, now, says) for s in found["services"] if s["name"] != BACKUP)
        ports = {name: cluster.port for name, cluster in layout.clusters.items()}
        try:
            problems: Any = diagnose(
                logs, start=now - since, end=now, servers=tuple(layout.clusters), language=language, port_of=ports
            )
        except AtalaiaError:
            problems = Unknown(says["store"])
        kept = _backups(environment, says)
        return RunbookFacts(
            generated=now,
            environment=environment.folder.name or "atalaia",
            version=__version__,
            configuration=_without_secrets(environment.file.read_text(encoding="utf-8"))
            if environment.file.is_file()
            else TEXT,
            services=services,
            targets=environment.settings.collection.targets,
            store=_store(environment, layout, logs, now, says),
            repository=_shown(environment, Path(place)) if not remote(place := environment.repositories[0]) else place,
            backups=kept,
            diagnosis=problems,
            commands=_commands(kept, command, language),
        )
    finally:
        logs.close()


def _shown(environment: Environment, path: Path) -> str:
    """A path as it is meant from the environment's folder."""
    try:
        return str(path.relative_to(environment.folder))
    except ValueError:
        return str(path)


def _without_secrets(configuration: str) -> str:
    """An atalaia.toml that may be shown to others."""
    return re.sub(r"""\btoken\s*=\s*("[^"\n]*"|'[^'\n]*')""", 'token = "…"', configuration)


def _service(seen: dict[str, Any], layout: Layout, logs: LokiClient, now: int, says: dict[str, str]) -> ServiceFacts:
    name = seen["name"]
    environment = layout.environment
    cluster = layout.clusters.get(name)
    if cluster is not None:
        return ServiceFacts(
            name=name,
            kind="postgres",
            state=seen["state"],
            version=seen["version"] if seen["state"] == "ready" else cluster.installation.version,
            addresses=cluster.listen,
            port=cluster.port,
            data_directory=_shown(environment, cluster.data),
            log_directory=_shown(environment, cluster.log),
            settings=_settings(cluster, says) if cluster.settings else (),
            started=_started(logs, now, f'{{job="postgres", server="{name}", severity="LOG"}}', _SERVER_START, says),
        )
    selector = f'{{job="atalaia", service="{name}"}}'
    return ServiceFacts(
        name=name,
        kind="store" if name == STORE else "collector",
        state=seen["state"],
        version=seen["version"] if seen["state"] == "ready" else __version__,
        addresses=(environment.settings.logs.listen,) if name == STORE else (),
        port=layout.store_port if name == STORE else None,
        data_directory=_shown(
            environment, environment.store_directory if name == STORE else environment.state.collector
        ),
        log_directory=_shown(environment, environment.state.own_logs),
        settings=(),
        started=_started(logs, now, selector, "event=collecting" if name == COLLECTOR else "event=listening", says),
    )


_SERVER_START = "starting PostgreSQL|listening on|database system is ready to accept"


def _started(
    logs: LokiClient, now: int, selector: str, pattern: str, says: dict[str, str]
) -> tuple[str, ...] | Unknown:
    """The lines of the last start, as they were logged."""
    try:
        lines = list(logs.entries(f'{selector} |~ "{pattern}"', start=0, end=now, limit=8, newest_first=True))
    except AtalaiaError:
        return Unknown(says["store"])
    last = []
    for entry in lines:
        last.append(entry.line)
        if "starting PostgreSQL" in entry.line or pattern.startswith("event="):
            break
    return tuple(reversed(last))


def _settings(cluster: Cluster, says: dict[str, str]) -> tuple[tuple[str, str], ...] | Unknown:
    """The settings of atalaia.toml, as the running server has them."""
    names = [name.lower() for name in cluster.settings]
    try:
        with connect(cluster, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings WHERE lower(name) = ANY(%s) ORDER BY name",
                (names,),
            ).fetchall()
    except psycopg.Error:
        return Unknown(says["down"])
    return tuple((name, value or "''") for name, value in rows)


def _store(environment: Environment, layout: Layout, logs: LokiClient, now: int, says: dict[str, str]) -> StoreFacts:
    settings = environment.settings.logs
    entries: int | Unknown = Unknown(says["store"])
    oldest: int | Unknown = entries
    newest: int | Unknown = entries
    try:
        result = logs.query(f"sum(count_over_time({_ALL}[{now // _DAY + 1}d]))", time=now)["result"]
        entries = int(float(result[0]["value"][1])) if result else 0
        first = logs.page(_ALL, start=0, end=now, limit=1, newest_first=False)
        last = logs.page(_ALL, start=0, end=now, limit=1, newest_first=True)
        oldest = first[0].ts if first else Unknown(says["empty"])
        newest = last[0].ts if last else Unknown(says["empty"])
    except AtalaiaError:
        pass
    local = layout.store_port is not None
    directory = environment.store_directory
    size: int | Unknown = Unknown(says["remote"])
    if local:
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    remote: Fact = Unknown(says["remote"])
    return StoreFacts(
        address=layout.logs_url,
        directory=_shown(environment, directory) if local else remote,
        retention_age=(settings.retention_age or says["any"]) if local else remote,
        retention_size=(settings.retention_size or says["any"]) if local else remote,
        entries=entries,
        size=size,
        oldest=oldest,
        newest=newest,
    )


def _backups(environment: Environment, says: dict[str, str]) -> tuple[BackupFacts, ...]:
    found = []
    for backup in backups.list_backups(site_of(environment)):
        proof = next((v.seconds for v in reversed(backup.verifications) if v.passed), None)
        found.append(
            BackupFacts(
                name=backup.id,
                server=backup.server,
                taken=int(backup.started.timestamp() * 10**9),
                size=backup.size if backup.size else Unknown(says["size"]),
                state=backup.state.value,
                checksum=backup.sha256 or Unknown(says["size"]),
                restore_seconds=proof if proof is not None else Unknown(says["proof"]),
            )
        )
    return tuple(found)


def _commands(kept: tuple[BackupFacts, ...], command: str, language: Language) -> Commands:
    restorable = [b.name for b in kept if b.state in ("complete", "verified")]
    name = restorable[-1] if restorable else "BACKUP"
    document = "AMBIENTE.md" if language == "pt-BR" else "ENVIRONMENT.md"
    return Commands(
        rebuild=("make setup", ". .venv/bin/activate", f"{command} init", f"{command} up"),
        backup=(f"{command} backup now", f"{command} backup list"),
        verify=(f"{command} backup verify",),
        restore=(f"{command} backup restore {name}",),
        renew=(f"{command} runbook --language {language} > {document}",),
    )
