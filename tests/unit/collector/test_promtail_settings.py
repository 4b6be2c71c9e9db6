from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from atalaia.collector.plan import Decompression, Limits, Server
from atalaia.collector.promtail import load as promtail
from atalaia.collector.promtail.given import Given
from atalaia.collector.promtail.load import Loaded
from atalaia.collector.promtail.values import size
from atalaia.collector.stages.bounds import FewStreams, LongLines
from atalaia.environment.errors import ConfigurationError

HEAD = "clients: [{url: http://h/loki/api/v1/push}]\n"
JOB = "scrape_configs: [{job_name: j, static_configs: [{labels: {__path__: /a}}]}]\n"
MIB = 1 << 20


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch):
    def do(text: str, given: Given | None = None) -> Loaded:
        monkeypatch.setattr(promtail, "read_text", lambda path: dedent(text))
        return promtail.read(Path("/etc/promtail.yaml"), given=given)

    return do


def refused(read, text: str, given: Given | None = None) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as caught:
        read(text, given)
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.line, problem.message) for problem in caught.value.problems]


def remarks(loaded: Loaded) -> list[tuple[int, str]]:
    assert all(remark.remedy for remark in loaded.remarks)
    return [(remark.line, remark.message) for remark in loaded.remarks]


def test_grafanas_default_file_is_taken_as_it_is(read) -> None:
    # As the Docker image and the packages have it.
    loaded = read(
        """\
        server:
          http_listen_port: 9080
          grpc_listen_port: 0

        positions:
          filename: /tmp/positions.yaml

        clients:
          - url: http://loki:3100/loki/api/v1/push

        scrape_configs:
        - job_name: system
          static_configs:
          - targets:
              - localhost
            labels:
              job: varlogs
              __path__: /var/log/*log
        """
    )
    plan = loaded.plan
    assert plan.server == Server(port=9080)
    assert plan.positions == Path("/tmp/positions.yaml.atalaia")
    ((target,),) = [job.targets for job in plan.jobs]
    assert (target.pattern, target.labels) == ("/var/log/*log", {"job": "varlogs"})
    assert (plan.limits, plan.stdin, loaded.level) == (Limits(), None, "INFO")
    assert remarks(loaded) == [(3, "server.grpc_listen_port is not used")]


def test_the_server(read) -> None:
    assert read(HEAD + JOB).plan.server is None
    assert read(HEAD + JOB + "server: {log_level: warn}").plan.server == Server(port=80)
    assert read(HEAD + JOB + "server: {log_level: warn}").level == "WARNING"
    assert read(HEAD + JOB + "server: {http_listen_port: 1, disable: true}").plan.server is None
    text = """
    server: {http_listen_address: 127.0.0.1, http_listen_port: 0, http_path_prefix: /p/,
      register_instrumentation: false, health_check_target: false, enable_runtime_reload: true, log_format: logfmt}
    """
    expected = Server("127.0.0.1", 0, "/p", reload=True, metrics=False, ready_when_reading=False)
    assert read(HEAD + JOB + dedent(text)).plan.server == expected
    given = Given(settings={"server.http_listen_port": "9999", "server.log_level": "debug"})
    loaded = read(HEAD + JOB, given)
    assert (loaded.plan.server, loaded.level) == (Server(port=9999), "DEBUG")


def test_the_servers_certificate(read, tmp_path: Path) -> None:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("PEM")
    files = f"cert_file: {tmp_path}/cert, key_file: {tmp_path}/key, client_ca_file: {tmp_path}/ca"
    found = read(HEAD + JOB + f"server: {{http_tls_config: {{{files}}}}}").plan.server
    assert (found.certificate, found.key, found.client_ca) == (tmp_path / "cert", tmp_path / "key", tmp_path / "ca")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Neither written, nor asked for in words: nothing is dropped.
        ("{}", (Limits(), 256 << 10, [])),
        ("{readline_rate: 5}", (Limits(), 256 << 10, [])),
        ("{readline_rate_enabled: true}", (Limits(10000.0, 10000, False), 256 << 10, [])),
        ("{readline_rate_enabled: true, readline_rate: 0.5, readline_burst: 7, readline_rate_drop: true}",
         (Limits(0.5, 7, True), 256 << 10, [])),
        ("{max_line_size: 64kb}", (Limits(), 64 << 10, [])),
        ("{max_line_size: 64kb, max_line_size_truncate: true}", (Limits(), 64 << 10, [])),
        ("{max_line_size: 64kb, max_line_size_truncate: false}", (Limits(), MIB, [LongLines(64 << 10)])),
        ("{max_line_size: 0, max_line_size_truncate: false}", (Limits(), 256 << 10, [])),
        ("{max_line_size: 2M}", (Limits(), MIB, [])),
        ("{max_streams: 3}", (Limits(), 256 << 10, [FewStreams(3)])),
    ],
)  # fmt: skip
def test_limits(read, text: str, expected: tuple[Limits, int, list[object]]) -> None:
    plan = read(HEAD + JOB + f"limits_config: {text}").plan
    assert (plan.limits, plan.max_line_size, list(plan.jobs[0].stages)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits_config: {max_line_size: 1kb}", "lines beyond limits_config.max_line_size are cut there"),
        ("limits_config: {readline_rate_enabled: true}", "lines beyond limits_config.readline_rate wait"),
        ("server: {log_format: json}", "server.log_format is 'json'"),
        ("server: {grpc_server_max_recv_msg_size: 1}", "server.grpc_server_max_recv_msg_size is not used"),
        ("positions: {sync_period: 5s}", "positions.sync_period is not used"),
        ("target_config: {sync_period: 10s}", "target_config.sync_period is not used"),
        ("global: {file_watch_config: {min_poll_frequency: 1s}}", "file_watch_config.min_poll_frequency is not used"),
        ("options: {stream_lag_labels: filename}", "options.stream_lag_labels is not used"),
        ("tracing: {enabled: true}", "tracing.enabled is not used"),
        ("wal: {enabled: true, dir: /w, cleanSegmentsOlderThan: 1h}", "wal.enabled is not used"),
    ],
)
def test_what_is_not_used_is_told(read, text: str, message: str) -> None:
    assert remarks(read(HEAD + JOB + text)) == [(3, message)]


def test_what_is_switched_off_is_not_worth_telling(read) -> None:
    assert remarks(read(HEAD + JOB + "tracing: {enabled: false}\nwal: {enabled: false}\ntarget_config: {}")) == []
    assert remarks(read(HEAD + JOB, Given(unused=("server.grpc-listen-port",)))) == [
        (0, "the flag -server.grpc-listen-port is not used")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {http_listen_prt: 1}", "server: 'http_listen_prt' is not known to this version of Atalaia"),
        ("server: {http_listen_port: x}", "server.http_listen_port: 'x' is not a whole number"),
        ("server: {http_listen_port: 70000}", "server.http_listen_port is 70000"),
        ("server: {log_level: loud}", "server.log_level is 'loud'"),
        ("server: {disable: perhaps}", "server.disable is 'perhaps', neither true nor false"),
        ("server: {http_tls_config: {cert: PEM}}", "http_tls_config.cert is not built"),
        ("server: {http_tls_config: {cert_file: /none}}", "cert_file /none: there is no such file"),
        ("server: {http_tls_config: {client_auth_type: RequestClientCert}}", "client_auth_type 'RequestClientCert' is"),
        ("limits_config: {readline_rate: 0}", "limits_config.readline_rate '0' is no number above 0"),
        ("limits_config: {max_streams: -1}", "limits_config.max_streams: '-1' is not a whole number"),
        ("limits_config: {max_line_size: 12}", "limits_config.max_line_size is 12 B"),
        ("limits_config: {max_line_size: 1.5MB}", "limits_config.max_line_size: '1.5MB' is not a size"),
        ("positions: {file: x}", "positions: 'file' is not known to this version of Atalaia"),
        ("positions: {sync_period: often}", "positions.sync_period: 'often' is not a duration"),
        ("target_config: {sync_period: often}", "target_config.sync_period: 'often' is not a duration"),
        ("tracing: {on: true}", "tracing: 'True' is not known to this version of Atalaia"),
        ("wal: {directory: x}", "wal: 'directory' is not known to this version of Atalaia"),
        ("scrape_config: []", "promtail.yaml: 'scrape_config' is not known to this version of Atalaia"),
    ],
)
def test_what_is_wrong_is_refused(read, text: str, message: str) -> None:
    (line, found), *_ = refused(read, HEAD + JOB + text)
    assert (line, found[: len(message)]) == (3, message)


def test_a_key_with_a_slip_is_told_its_nearest(read) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'http_listen_port'"):
        read(HEAD + JOB + "server: {http_listen_prt: 1}")
    with pytest.raises(ConfigurationError, match="did you mean 'relabel_configs'"):
        read(HEAD + "scrape_configs: [{job_name: j, relabel_config: [], static_configs: [{labels: {__path__: /a}}]}]")


def test_sizes_are_promtails() -> None:
    assert [size(text) for text in ("12", "1k", "256kb", "256KiB", "2M", "1 GB", "5B")] == [
        12, 1024, 256 << 10, 256 << 10, 2 << 20, 1 << 30, 5,
    ]  # fmt: skip


def test_where_positions_are_kept(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = read(HEAD + JOB + f"positions: {{filename: {tmp_path}/p.yaml}}").plan.positions
    assert written == tmp_path / "p.yaml.atalaia"
    monkeypatch.setattr("os.access", lambda path, mode: True)
    assert read(HEAD + JOB).plan.positions == Path("/var/log/positions.yaml.atalaia")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert read(HEAD + JOB).plan.positions == Path("/etc/promtail.positions.atalaia")


def test_environment_variables_are_replaced_when_asked_for(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS", "/var/log/app")
    text = HEAD + "scrape_configs: [{static_configs: [{labels: {__path__: '${LOGS}/*.log', host: '${NONE:-box}'}}]}]"
    (target,) = read(text, Given(expand=True)).plan.jobs[0].targets
    assert (target.pattern, target.labels) == ("/var/log/app/*.log", {"host": "box"})
    (target,) = read(text).plan.jobs[0].targets
    assert target.labels == {"host": "${NONE:-box}"}
    assert refused(read, HEAD + JOB + "x: ${", Given(expand=True)) == [(3, "a ${ has no variable's name")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{enabled: true}", Decompression()),
        ("{enabled: true, format: gz, initial_delay: 10s}", Decompression("gz", 10.0)),
        ("{enabled: false, format: bz2}", None),
        ("{}", None),
    ],
)
def test_decompression(read, text: str, expected: Decompression | None) -> None:
    job = f"scrape_configs: [{{decompression: {text}, static_configs: [{{labels: {{__path__: /a}}}}]}}]"
    assert read(HEAD + job).plan.jobs[0].decompression == expected


def test_encodings_and_formats_that_are_not_known(read) -> None:
    job = "scrape_configs:\n- static_configs: [{labels: {__path__: /a}}]\n  encoding: "
    assert read(HEAD + job + "utf-16le").plan.jobs[0].encoding == "utf-16le"
    assert read(HEAD + job + "UTF-8").plan.jobs[0].encoding is None
    assert refused(read, HEAD + job + "klingon") == [(4, "the encoding 'klingon' is not known")]
    assert refused(read, HEAD + job + "rot13") == [(4, "the encoding 'rot13' is not known")]
    wrong = refused(read, HEAD + job + "ascii\n  decompression: {enabled: true, format: zip}")
    assert wrong == [(5, "decompression.format is 'zip'")]
