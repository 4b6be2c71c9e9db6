"""Facts of a small environment, with a diagnosis of the seed's error."""

from __future__ import annotations

from collections.abc import Iterator

from atalaia.client.entries import LogEntry
from atalaia.diagnosis.diagnose import Diagnosis, diagnose
from atalaia.diagnosis.language import Language
from atalaia.runbook.facts import BackupFacts, Commands, RunbookFacts, ServiceFacts, StoreFacts, Unknown

SECOND = 1_000_000_000
NOON = 1_723_118_400 * SECOND  # 2024-08-08 12:00:00 UTC


class Logs:
    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def entries(
        self, query: str, *, start: int, end: int, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[LogEntry]:
        for n, line in enumerate(self.lines):
            if "severity=~" not in query:
                severity = line.split(":")[0]
                labels = {"job": "postgres", "server": "postgres_a", "severity": severity}
                yield LogEntry(NOON + n * SECOND, labels, line, {"remote_host": "127.0.0.1", "remote_port": "52114"})


def diagnosis(language: Language, *lines: str) -> Diagnosis:
    logs = Logs(*(lines or ("LOG:  invalid length of startup packet",)))
    return diagnose(logs, start=NOON, end=NOON + 60 * SECOND, language=language, port_of={"postgres_a": 5433})


def service(name: str, kind: str = "postgres", **change: object) -> ServiceFacts:
    values: dict[str, object] = {
        "state": "ready", "version": "16.14", "addresses": ("127.0.0.1", "::1"), "port": 5433,
        "data_directory": f".atalaia/servers/{name}/data", "log_directory": f".atalaia/servers/{name}/log",
        "settings": (("max_connections", "100"), ("shared_preload_libraries", "a|b`c")),
        "started": ('LOG:  listening on IPv4 address "127.0.0.1", port 5433',),
    }  # fmt: skip
    return ServiceFacts(name=name, kind=kind, **(values | change))  # type: ignore[arg-type]


def facts(language: Language, **change: object) -> RunbookFacts:
    values: dict[str, object] = {
        "generated": NOON,
        "environment": "loja",
        "version": "0.1.0",
        "configuration": "[servers.postgres_a]\nversion = 16\n",
        "services": (
            service("postgres_a"),
            service("postgres_b", port=5434, settings=(), started=Unknown("it was adopted, not started")),
            service("collector", "collector", addresses=(), port=None, settings=(), started=()),
            service("store", "store", port=3100, addresses=("127.0.0.1",), settings=(), started=()),
        ),
        "targets": ("/var/log/*log",),
        "store": StoreFacts(
            "http://127.0.0.1:3100", ".atalaia/store", "30d", "10GiB", 1_234_567, 45_000_000, NOON - SECOND, NOON
        ),
        "repository": ".atalaia/backups",
        "backups": (
            BackupFacts("b1", "postgres_a", NOON - 90 * SECOND, 1_500_000, "verified", "ab" * 32, 12.5),
            BackupFacts("b2", "postgres_b", NOON - 50 * SECOND, 7000, "complete", "cd" * 32, Unknown("nobody tested")),
        ),
        "diagnosis": diagnosis(language),
        "commands": Commands(
            ("pip install atalaia", "atalaia init", "atalaia up"), ("atalaia backup run",), ("atalaia backup verify",),
            ("atalaia backup restore b1 --to ./restored",), ("atalaia runbook > AMBIENTE.md",),
        ),
    }  # fmt: skip
    return RunbookFacts(**(values | change))  # type: ignore[arg-type]
