"""`atalaia collect` as people and unit files run it: checked, tried out, with Promtail's flags and positions."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.api_support import Served, Tenant, served, tenant  # noqa: F401 - fixtures
from tests.integration.logs_support import free_port, wait_for

DEFAULT = """\
server:
  http_listen_port: 9080
  grpc_listen_port: 0

positions:
  filename: {folder}/positions.yaml

clients:
  - url: http://127.0.0.1:9/loki/api/v1/push

scrape_configs:
- job_name: system
  static_configs:
  - targets:
      - localhost
    labels:
      job: varlogs
      __path__: {folder}/*log
"""
STAGES = r"""
  pipeline_stages:
  - multiline: {firstline: '^\d', max_wait_time: 300ms}
  - regex: {expression: '^(?P<time>\S+) (?P<level>\w+)'}
  - timestamp: {source: time, format: RFC3339}
  - labels: {level: }
  - match: {selector: '{level="DEBUG"}', action: drop}
"""


class Collect:
    """The command in a process of its own; what it writes is in files."""

    def __init__(self, folder: Path, *arguments: str, stdin: int | None = None, **variables: str) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        command = [sys.executable, "-W", "error", "-m", "atalaia", "collect", *arguments]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            environment = {**os.environ, "TZ": "UTC", "NO_COLOR": "1", **variables}
            self.process = subprocess.Popen(command, stdout=out, stderr=err, stdin=stdin, env=environment)

    @property
    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    @property
    def errors(self) -> str:
        return self.err.read_text()

    def end(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def collect(tmp_path: Path) -> Iterator:
    """Runs the command; files are in `tmp_path`, promtail.yaml among them."""
    running: list[Collect] = []

    def run(*arguments: str, **options) -> Collect:
        place = tmp_path / f"run{len(running)}"
        place.mkdir()
        running.append(Collect(place, *arguments, **options))
        return running[-1]

    yield run
    for one in running:
        one.process.kill()
        one.process.wait(10)
        assert "Traceback" not in one.errors
        assert "internal error" not in one.errors


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "promtail.yaml"
    path.write_text(DEFAULT.format(folder=tmp_path))
    (tmp_path / "syslog").write_text("2024-01-02T03:04:05Z INFO one\n  more\n2024-01-02T03:04:06.5Z DEBUG two\n")
    return path


def test_grafanas_default_file_is_checked_as_it_is(collect, config: Path, tmp_path: Path) -> None:
    (tmp_path / "positions.yaml").write_text(f'positions:\n  {tmp_path}/syslog: "39"\n')
    run = collect(f"-config.file={config}", "-check-syntax")
    assert run.process.wait(20) == 0, run.errors
    assert run.lines == [
        f"{config} is good: 1 job",
        "job system",
        f'  {tmp_path}/*log  1 file  {{job="varlogs"}}',
        "to http://127.0.0.1:9/loki/api/v1/push",
        f"positions in {tmp_path}/positions.yaml.atalaia; Promtail's of 1 files will be taken over",
        "HTTP server on *:9080",
        "note: promtail.yaml:3: server.grpc_listen_port is not used",
        "    it means nothing here",
    ]
    assert sorted(path.name for path in tmp_path.glob("positions*")) == ["positions.yaml"]


def test_everything_wrong_is_told_at_once(collect, config: Path) -> None:
    text = config.read_text().replace("http_listen_port: 9080", "http_listen_prt: 9080").replace("__path__", "path")
    config.write_text(text + "- job_name: system\n  kafka: {}\n")
    run = collect("--config", str(config), "--check")
    assert run.process.wait(20) == 1
    assert run.lines == []
    places = [line.split(": ")[0].strip() for line in run.errors.splitlines()[1:] if not line.startswith("    ")]
    assert places == ["promtail.yaml:2", "promtail.yaml:14", "promtail.yaml:19", "promtail.yaml:20"]
    assert "did you mean 'http_listen_port'?" in run.errors
    run = collect("--config", str(config))
    assert run.process.wait(20) == 2


def test_wrong_flags_are_told_with_the_nearest(collect, config: Path) -> None:
    runs = [collect(f"-confg.file={config}"), collect("-config.file"), collect("--set", "x", "--config", str(config))]
    assert [run.process.wait(20) for run in runs] == [2, 2, 2]
    assert "did you mean -config.file?" in runs[0].errors
    assert "needs a value" in runs[1].errors
    assert "KEY=VALUE" in runs[2].errors


def test_a_dry_run_prints_what_comes_and_moves_nothing(collect, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text() + STAGES)
    run = collect("-dry-run", "-config.file", str(config), "-client.external-labels=box=b")
    wait_for(lambda: run.lines)
    with (tmp_path / "syslog").open("a") as file:
        file.write("2024-01-02T03:04:07Z ERROR three\n")
    wait_for(lambda: len(run.lines) > 2)
    assert run.end() == 0
    labels = f'{{box="b", filename="{tmp_path}/syslog", job="varlogs", level="%s"}}'
    assert run.lines == [
        f"2024-01-02T03:04:05+0000\t{labels % 'INFO'}\t2024-01-02T03:04:05Z INFO one",
        "  more",
        f"2024-01-02T03:04:07+0000\t{labels % 'ERROR'}\t2024-01-02T03:04:07Z ERROR three",
    ]
    assert "nothing is sent to http://127.0.0.1:9/loki" in run.errors
    assert not list(tmp_path.glob("positions*"))


def test_a_dry_run_listens(collect, config: Path, tmp_path: Path) -> None:
    port = free_port()
    config.write_text(
        f"clients: [{{url: 'http://127.0.0.1:9/loki/api/v1/push'}}]\npositions: {{filename: {tmp_path}/positions}}\n"
        f"scrape_configs:\n- job_name: s\n  syslog: {{listen_address: '127.0.0.1:{port}', labels: {{job: s}}}}\n"
        "  relabel_configs: [{source_labels: [__syslog_message_severity], target_label: level}]\n"
    )
    run = collect("--dry-run", "--config", str(config))
    wait_for(lambda: "event=collecting" in run.errors, what=run.errors)
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(b"<11>1 2024-01-02T03:04:05Z host app - - - it broke\n")
    wait_for(lambda: run.lines)
    assert run.end() == 0
    assert run.lines[0].split("\t")[1:] == ['{job="s", level="error"}', "it broke"]
    assert [path.name for path in tmp_path.glob("positions*")] == []


def test_an_inspection_shows_each_stage(collect, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text() + STAGES)
    (tmp_path / "other").write_text("")
    with (tmp_path / "syslog").open("rb") as stdin:
        run = collect("--inspect", "--stdin", "--config", str(config), stdin=stdin.fileno())
        assert run.process.wait(20) == 0, run.errors
    told = [line.strip().split("  ", 1) for line in run.lines]
    assert ["multiline", '~ line: "2024-01-02T03:04:05Z INFO one" -> "2024-01-02T03:04:05Z INFO one\\n  more"'] in told
    assert ["multiline", "+ joined to the entry before"] in told
    assert ["labels", '+ label level = "INFO"'] in told
    assert ["match", "- dropped"] in told
    assert [line for line in told if line[0] == "=>"] == [
        ["=>", '2024-01-02T03:04:05+0000\t{job="varlogs", level="INFO"}\t2024-01-02T03:04:05Z INFO one']
    ]


def test_variables_are_replaced_and_what_is_understood_is_shown(collect, config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("varlogs", "${NAME:-nobody}").replace("http://127", "http://me:pass@127")
    config.write_text(text.replace(str(tmp_path), "${FOLDER}"))
    with (tmp_path / "syslog").open("rb") as stdin:
        run = collect(
            f"-config.file=/none.yaml, {config}", "-config.expand-env=true", "-dry-run", "-stdin",
            "-print-config-stderr", "-server.http-listen-port=0", "-log.level=warn",
            stdin=stdin.fileno(), NAME="my job", FOLDER=str(tmp_path),
        )  # fmt: skip
        assert run.process.wait(20) == 0, run.errors
    assert run.lines[0].split("\t")[1] == '{job="my job"}'
    for shown in ("job: my job", "http_listen_port: '0'", f"{tmp_path}/*log", "http://me:<secret>@127"):
        assert shown in run.errors
    assert "level=info" not in run.errors


def test_a_pipe_needs_no_file(collect, config: Path, tmp_path: Path) -> None:
    with (tmp_path / "syslog").open("rb") as stdin:
        run = collect("-stdin", "-dry-run", "-client.url=http://127.0.0.1:9/loki/api/v1/push", stdin=stdin.fileno())
        assert run.process.wait(20) == 0, run.errors
    assert [line.split("\t")[2] for line in run.lines] == (tmp_path / "syslog").read_text().splitlines()
    assert 'job="stdin"' in run.lines[0]


def test_the_version_is_told_as_promtail_tells_its_own(collect) -> None:
    run = collect("-version")
    assert run.process.wait(20) == 0
    assert run.lines[0].startswith("atalaia ")


def collected(asked: Tenant, selector: str) -> list[str]:
    parameters = {"query": selector, "since": "1h", "limit": 100, "direction": "forward"}
    answer = asked.call("/loki/api/v1/query_range", params=parameters)
    entries = [value for stream in answer.json()["data"]["result"] for value in stream["values"]]
    return [line for _, line in sorted(entries, key=lambda entry: int(entry[0]))]


@pytest.fixture
def sending(config: Path, served: Served, tenant: Tenant) -> Path:  # noqa: F811 - the fixtures
    """The same configuration, towards the store."""
    text = config.read_text().replace("http://127.0.0.1:9/loki/api/v1/push", f"{served.url}/loki/api/v1/push")
    text = text.replace("server:\n", "server:\n  disable: true\n")
    config.write_text(text.replace("  - url", f"  - tenant_id: {tenant.name}\n    url"))
    return config


def test_promtails_positions_are_taken_over_once(collect, sending: Path, tmp_path: Path, tenant: Tenant) -> None:  # noqa: F811
    first = len("2024-01-02T03:04:05Z INFO one\n")
    (tmp_path / "positions.yaml").write_text(f'positions:\n  {tmp_path}/syslog: "{first}"\n  {tmp_path}/gone: "5"\n')
    expected = ["  more", "2024-01-02T03:04:06.5Z DEBUG two"]
    run = collect("-config.file", str(sending))
    wait_for(lambda: collected(tenant, '{job="varlogs"}') == expected, what=run.errors)
    assert run.end(signal.SIGTERM) == 0
    assert "event=promtail_positions_taken files=1 of=2" in run.errors
    # Promtail's file is of no use any more.
    (tmp_path / "positions.yaml").write_text(f'positions:\n  {tmp_path}/syslog: "0"\n  {tmp_path}/newlog: "4"\n')
    (tmp_path / "newlog").write_text("new\nline\n")
    run = collect("-config.file", str(sending))
    wait_for(lambda: len(collected(tenant, '{job="varlogs"}')) == 4)
    assert run.end(signal.SIGTERM) == 0
    assert "promtail_positions_taken" not in run.errors
    assert collected(tenant, '{job="varlogs"}') == [*expected, "new", "line"]


def test_a_hangup_reads_the_file_again_and_files_of_targets_are_watched(
    collect,
    sending: Path,
    tmp_path: Path,
    tenant: Tenant,  # noqa: F811
) -> None:
    run = collect("-config.file", str(sending))
    wait_for(lambda: len(collected(tenant, '{job="varlogs"}')) == 3)
    good = sending.read_text()
    sending.write_text(good + "nonsense: 1\n")
    run.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "event=reload_failed" in run.errors)
    targets = tmp_path / "targets.yaml"
    targets.write_text("[]")
    sending.write_text(good + f"- job_name: found\n  file_sd_configs: [{{files: ['{targets}']}}]\n")
    run.process.send_signal(signal.SIGHUP)
    wait_for(lambda: run.errors.count("event=collecting") == 2)
    (tmp_path / "app.txt").write_text("from a file of targets\n")
    targets.write_text(f"- targets: [x]\n  labels: {{job: found, __path__: {tmp_path}/app.txt}}\n")
    wait_for(lambda: collected(tenant, '{job="found"}') == ["from a file of targets"], what=run.errors)
    assert run.end(signal.SIGTERM) == 0
    assert len(collected(tenant, '{job="varlogs"}')) == 3


def test_standard_input_is_collected_to_its_end(collect, sending: Path, tmp_path: Path, tenant: Tenant) -> None:  # noqa: F811
    (tmp_path / "input").write_bytes(b"one\ntwo\nthree")
    with (tmp_path / "input").open("rb") as stdin:
        run = collect("--config", str(sending), "--stdin", stdin=stdin.fileno())
        assert run.process.wait(20) == 0, run.errors
    assert collected(tenant, '{job="varlogs"}') == ["one", "two", "three"]
