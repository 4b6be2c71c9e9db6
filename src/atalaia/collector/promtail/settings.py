"""What a promtail.yaml says of the collector itself: server, positions, limits_config, target_config and the others.

Keys of Promtail 3.6 that mean nothing here (gRPC, polling, tracing) are taken and told as unused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaia.collector.plan import Limits, Server
from atalaia.collector.promtail.values import checked, seconds, size, whole
from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader
from atalaia.store.batch import Limits as StoreLimits

TOP = {
    "global", "server", "client", "clients", "positions", "scrape_configs", "target_config", "limits_config",
    "options", "tracing", "wal",
}  # fmt: skip
_TLS = {"cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file"}
_SERVER = {
    "disable", "http_listen_address", "http_listen_port", "http_path_prefix", "http_tls_config",
    "register_instrumentation", "health_check_target", "enable_runtime_reload", "log_level", "log_format",
}  # fmt: skip
_SERVER_UNUSED = {
    "cluster_validation", "create_new_traces", "enable_open_metrics_text_created_samples", "external_url",
    "graceful_shutdown_timeout", "grpc_collect_max_streams_by_conn", "grpc_listen_address", "grpc_listen_conn_limit",
    "grpc_listen_network", "grpc_listen_port", "grpc_server_keepalive_time", "grpc_server_keepalive_timeout",
    "grpc_server_max_concurrent_streams", "grpc_server_max_connection_age", "grpc_server_max_connection_age_grace",
    "grpc_server_max_connection_idle", "grpc_server_max_recv_msg_size", "grpc_server_max_send_msg_size",
    "grpc_server_min_time_between_pings", "grpc_server_num_workers", "grpc_server_ping_without_stream_allowed",
    "grpc_server_read_buffer_size", "grpc_server_recv_buffer_pools_enabled", "grpc_server_stats_tracking_enabled",
    "grpc_server_write_buffer_size", "grpc_tls_config", "http_listen_conn_limit", "http_listen_network",
    "http_log_closed_connections_without_response_enabled", "http_server_idle_timeout",
    "http_server_read_header_timeout", "http_server_read_timeout", "http_server_write_timeout",
    "log_request_at_info_level_enabled", "log_request_exclude_headers_list", "log_request_headers",
    "log_source_ips_enabled", "log_source_ips_full", "log_source_ips_header", "log_source_ips_regex",
    "profiling_enabled", "proxy_protocol_enabled", "report_grpc_codes_in_instrumentation_label_enabled",
    "tls_cipher_suites", "tls_min_version", "trace_request_exclude_headers_list", "trace_request_headers",
}  # fmt: skip
_LIMITS = {
    "readline_rate", "readline_burst", "readline_rate_enabled", "readline_rate_drop", "max_streams", "max_line_size",
    "max_line_size_truncate",
}  # fmt: skip
LEVELS: Mapping[str, str] = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}
_DEFAULT_PORT = 80
_LONGEST = 256 << 10  # bytes of a line, unless something else is said: what Loki takes by default


def server_of(reader: Reader, node: Node | None) -> tuple[Server | None, str]:
    """The HTTP server, None for none, and the level of the log (a value of LEVELS)."""
    body = reader.mapping(node, "server", _SERVER | _SERVER_UNUSED)
    unused(reader, body, "server", _SERVER_UNUSED)
    level = (reader.text(body.get("log_level"), "server.log_level") or "info").lower()
    if level not in LEVELS:
        reader.problem(body["log_level"], f"server.log_level is {level!r}", f"write one of {', '.join(LEVELS)}")
    if (form := reader.text(body.get("log_format"), "server.log_format")) not in (None, "logfmt"):
        reader.remark(body["log_format"], f"server.log_format is {form!r}", "the collector's own log is logfmt")
    port = checked(reader, body.get("http_listen_port"), "server.http_listen_port", whole)
    if port is not None and port > 65535:
        reader.problem(body["http_listen_port"], f"server.http_listen_port is {port}", "write 0 to 65535")
    certificate, key, client_ca = _tls(reader, body.get("http_tls_config"))
    server = Server(
        reader.text(body.get("http_listen_address"), "server.http_listen_address") or "",
        _DEFAULT_PORT if port is None else port,
        (reader.text(body.get("http_path_prefix"), "server.http_path_prefix") or "").rstrip("/"),
        reader.flag(body.get("enable_runtime_reload"), "server.enable_runtime_reload"),
        _flag(reader, body, "register_instrumentation", True),
        _flag(reader, body, "health_check_target", True),
        certificate,
        key,
        client_ca,
    )
    disabled = reader.flag(body.get("disable"), "server.disable")
    return (server if body and not disabled else None), LEVELS.get(level, "INFO")


def _tls(reader: Reader, node: Node | None) -> tuple[Path | None, Path | None, Path | None]:
    body = reader.mapping(node, "http_tls_config", _TLS)
    for name in ("cert", "key", "client_ca"):
        if body.get(name) is not None and body[name].value:
            reader.problem(body[name], f"http_tls_config.{name} is not built", f"write it to a file: {name}_file: FILE")
    found: dict[str, Path] = {}
    for name in ("cert_file", "key_file", "client_ca_file"):
        if text := reader.text(body.get(name), name):
            found[name] = Path(text)
            if not found[name].is_file():
                reader.problem(body[name], f"{name} {text}: there is no such file", "give the path of a PEM file")
    if ("cert_file" in found) != ("key_file" in found) and node is not None:
        reader.problem(node, "cert_file and key_file go together", "give both")
    kind = reader.text(body.get("client_auth_type"), "client_auth_type")
    if kind not in (None, "", "NoClientCert", "RequireAndVerifyClientCert"):
        remedy = "write RequireAndVerifyClientCert with client_ca_file, or leave it out"
        reader.problem(body["client_auth_type"], f"client_auth_type {kind!r} is not built", remedy)
    return found.get("cert_file"), found.get("key_file"), found.get("client_ca_file")


@dataclass(frozen=True, slots=True)
class Lines:
    """What limits_config says. `longest`: bytes of a line; longer ones are cut there, or dropped where asked for.

    `streams`: how many streams a block of lines may have, 0 for any number.
    """

    limits: Limits
    longest: int = _LONGEST
    drop_long: bool = False
    streams: int = 0

    @property
    def read(self) -> int:
        """The longest line in bytes that is read whole."""
        return StoreLimits().line if self.drop_long else self.longest


def lines_of(reader: Reader, node: Node | None) -> Lines:
    """The limits; nothing is dropped that the file does not ask for in words."""
    body = reader.mapping(node, "limits_config", _LIMITS)
    limits = _rate(reader, body)
    longest = checked(reader, body.get("max_line_size"), "limits_config.max_line_size", size) or 0
    most = StoreLimits().line
    if longest and longest < 128:
        reader.problem(body["max_line_size"], f"limits_config.max_line_size is {longest} B", "write 128B or more")
    if longest > most:
        reader.remark(body["max_line_size"], "limits_config.max_line_size is over 1 MiB", "lines are cut at 1 MiB")
    cut = _flag(reader, body, "max_line_size_truncate", True)
    if longest and "max_line_size_truncate" not in body:
        remedy = "write max_line_size_truncate: false to drop them, as Promtail does"
        reader.remark(body["max_line_size"], "lines beyond limits_config.max_line_size are cut there", remedy)
    streams = checked(reader, body.get("max_streams"), "limits_config.max_streams", whole) or 0
    return Lines(limits, min(longest or _LONGEST, most), bool(longest) and not cut, streams)


def _rate(reader: Reader, body: Mapping[str, Node]) -> Limits:
    text = reader.text(body.get("readline_rate"), "limits_config.readline_rate") or "10000"
    try:
        rate = float(text)
        if not 0 < rate < float("inf"):
            raise ValueError
    except ValueError:
        remedy = "write the lines a second, such as 10000"
        reader.problem(body["readline_rate"], f"limits_config.readline_rate {text!r} is no number above 0", remedy)
        rate = 1.0
    burst = checked(reader, body.get("readline_burst"), "limits_config.readline_burst", whole)
    drop = reader.flag(body.get("readline_rate_drop"), "limits_config.readline_rate_drop")
    if not reader.flag(body.get("readline_rate_enabled"), "limits_config.readline_rate_enabled"):
        return Limits()
    if "readline_rate_drop" not in body:
        remedy = "write readline_rate_drop: true to drop them, as Promtail does"
        reader.remark(body["readline_rate_enabled"], "lines beyond limits_config.readline_rate wait", remedy)
    return Limits(rate, max(1, 10_000 if burst is None else burst), drop)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where Promtail's positions are, whether it was said so, and whether a damaged file is passed over."""

    file: Path
    written: bool
    ignore_invalid: bool

    def own(self, config: Path) -> Path:
        """Where ours are kept: beside Promtail's; beside the configuration where nobody named a place to write to."""
        own = Path(f"{self.file}.atalaia")
        beside = Path(f"{config.with_suffix('.positions')}.atalaia")
        usable = self.written or (not beside.exists() and os.access(self.file.parent, os.W_OK))
        return own if usable else beside


def positions_of(reader: Reader, node: Node | None) -> Positions:
    """The positions block."""
    body = reader.mapping(node, "positions", {"filename", "sync_period", "ignore_invalid_yaml"})
    seconds(reader, body.get("sync_period"), "positions.sync_period", 10)
    unused(reader, body, "positions", {"sync_period"}, "a position is written once its lines are acknowledged")
    written = reader.text(body.get("filename"), "positions.filename")
    ignore = reader.flag(body.get("ignore_invalid_yaml"), "positions.ignore_invalid_yaml")
    return Positions(Path(written or "/var/log/positions.yaml"), bool(written), ignore)


def others(reader: Reader, root: Mapping[str, Node]) -> bool:
    """target_config, global, options, tracing and wal: checked and told as unused. Whether standard input is read."""
    target = reader.mapping(root.get("target_config"), "target_config", {"sync_period", "stdin"})
    found_at_once = "new files are found within a second"
    checked(reader, target.get("sync_period"), "target_config.sync_period", parse_duration)
    unused(reader, target, "target_config", {"sync_period"}, found_at_once)
    both = reader.mapping(root.get("global"), "global", {"file_watch_config"})
    frequencies = {"min_poll_frequency", "max_poll_frequency"}
    watch = reader.mapping(both.get("file_watch_config"), "file_watch_config", frequencies)
    for name in watch:
        checked(reader, watch[name], f"file_watch_config.{name}", parse_duration)
    unused(reader, watch, "file_watch_config", frequencies, found_at_once)
    options = reader.mapping(root.get("options"), "options", {"stream_lag_labels"})
    unused(reader, options, "options", {"stream_lag_labels"}, "the lag is told for each file")
    tracing = reader.mapping(root.get("tracing"), "tracing", {"enabled", "filter_gcs_spans"})
    if reader.flag(tracing.get("enabled"), "tracing.enabled"):
        unused(reader, tracing, "tracing", {"enabled"}, "the collector makes no traces")
    known = {"enabled", "dir", "cleanSegmentsOlderThan", "watchConfig"}
    wal = reader.mapping(root.get("wal"), "wal", known)
    reader.mapping(wal.get("watchConfig"), "wal.watchConfig", {"minReadFrequency", "maxReadFrequency", "drainTimeout"})
    if reader.flag(wal.get("enabled"), "wal.enabled"):
        unused(
            reader, wal, "wal", {"enabled"}, "lines wait in their files, and what comes by network in a spool on disk"
        )
    return reader.flag(target.get("stdin"), "target_config.stdin")


def unused(
    reader: Reader, body: Mapping[str, Node], what: str, names: set[str], why: str = "it means nothing here"
) -> None:
    """Tell which of the keys stand there and are not used."""
    for name in body:
        if name in names:
            reader.remark(body[name], f"{what}.{name} is not used", why)


def _flag(reader: Reader, body: Mapping[str, Node], name: str, default: bool) -> bool:
    given = body.get(name)
    return default if given is None or given.value is None else reader.flag(given, name)
