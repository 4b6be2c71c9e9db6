"""Promtail's command line in the words of `atalaia collect`, so that an existing unit file needs another program only.

Flags are Go's: one or two dashes, `-flag value` or `-flag=value`, and yes-or-no flags alone or as `-flag=false`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from atalaia.environment.errors import InputError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_YES = {"1", "t", "T", "true", "TRUE", "True"}
_NO = {"0", "f", "F", "false", "FALSE", "False"}
# Ours; a second word means that a value follows.
_OWN: Mapping[str, tuple[str, bool]] = {
    "config.file": ("--config", True),
    "config.expand-env": ("--expand-env", False),
    "check-syntax": ("--check", False),
    "dry-run": ("--dry-run", False),
    "inspect": ("--inspect", False),
    "stdin": ("--stdin", False),
    "version": ("--version", False),
    "print-config-stderr": ("--print-config", False),
    "log-config-reverse-order": ("--print-config", False),
    "client.external-labels": ("--external-labels", True),
    "help": ("--help", False),
    "h": ("--help", False),
    "config": ("--config", True),
    "expand-env": ("--expand-env", False),
    "check": ("--check", False),
    "print-config": ("--print-config", False),
    "external-labels": ("--external-labels", True),
    "set": ("--set", True),
    "environment": ("--environment", True),
}
# Those that are keys of the file, with a value and as yes or no.
_VALUES: Mapping[str, str] = {
    "client.url": "client.url",
    "client.batch-wait": "client.batchwait",
    "client.batch-size-bytes": "client.batchsize",
    "client.max-retries": "client.backoff_config.max_retries",
    "client.min-backoff": "client.backoff_config.min_period",
    "client.max-backoff": "client.backoff_config.max_period",
    "client.timeout": "client.timeout",
    "client.tenant-id": "client.tenant_id",
    "positions.file": "positions.filename",
    "positions.sync-period": "positions.sync_period",
    "target.sync-period": "target_config.sync_period",
    "file-watch.min_poll_frequency": "global.file_watch_config.min_poll_frequency",
    "file-watch.max_poll_frequency": "global.file_watch_config.max_poll_frequency",
    "limit.readline-rate": "limits_config.readline_rate",
    "limit.readline-burst": "limits_config.readline_burst",
    "max-streams": "limits_config.max_streams",
    "max-line-size": "limits_config.max_line_size",
    "log.level": "server.log_level",
    "log.format": "server.log_format",
    "server.http-listen-address": "server.http_listen_address",
    "server.http-listen-port": "server.http_listen_port",
    "server.path-prefix": "server.http_path_prefix",
    "server.http-tls-cert-path": "server.http_tls_config.cert_file",
    "server.http-tls-key-path": "server.http_tls_config.key_file",
    "server.http-tls-client-auth": "server.http_tls_config.client_auth_type",
    "server.http-tls-ca-path": "server.http_tls_config.client_ca_file",
}
_SWITCHES: Mapping[str, str] = {
    "client.drop-rate-limited-batches": "client.drop_rate_limited_batches",
    "positions.ignore-invalid-yaml": "positions.ignore_invalid_yaml",
    "limit.readline-rate-enabled": "limits_config.readline_rate_enabled",
    "limit.readline-rate-drop": "limits_config.readline_rate_drop",
    "max-line-size-truncate": "limits_config.max_line_size_truncate",
    "server.disable": "server.disable",
    "server.register-instrumentation": "server.register_instrumentation",
    "server.enable-runtime-reload": "server.enable_runtime_reload",
}
# Flags of Promtail's without a meaning here, with a value and as yes or no.
_UNUSED_VALUES = _words(
    """server.http-listen-network server.http-conn-limit server.tls-cipher-suites server.tls-min-version
    server.grpc-tls-cert-path server.grpc-tls-key-path server.grpc-tls-client-auth server.grpc-tls-ca-path
    server.grpc-listen-network server.grpc-listen-address server.grpc-listen-port server.grpc-conn-limit
    server.graceful-shutdown-timeout server.http-read-timeout server.http-read-header-timeout
    server.http-write-timeout server.http-idle-timeout server.grpc-max-recv-msg-size-bytes
    server.grpc-max-send-msg-size-bytes server.grpc-max-concurrent-streams
    server.grpc.keepalive.max-connection-idle server.grpc.keepalive.max-connection-age
    server.grpc.keepalive.max-connection-age-grace server.grpc.keepalive.time server.grpc.keepalive.timeout
    server.grpc.keepalive.min-time-between-pings server.grpc.num-workers server.grpc.read-buffer-size-bytes
    server.grpc.write-buffer-size-bytes server.log-source-ips-header server.log-source-ips-regex
    server.log-request-headers-exclude-list server.trace-request-headers-exclude-list
    server.throughput.latency-cutoff server.throughput.unit server.cluster-validation.label
    server.cluster-validation.additional-labels server.cluster-validation.http.excluded-paths
    server.cluster-validation.http.excluded-user-agents client.stream-lag-labels"""
)
_UNUSED_SWITCHES = _words(
    """server.profiling_enabled server.grpc-collect-max-streams-by-conn server.proxy-protocol-enabled
    server.report-grpc-codes-in-instrumentation-label-enabled server.create-new-traces
    server.http-log-closed-connections-without-response-enabled
    server.grpc.keepalive.ping-without-stream-allowed server.grpc.stats-tracking-enabled
    server.grpc.recv-buffer-pools-enabled server.log-source-ips-enabled server.log-source-ips-full
    server.log-request-headers server.log-request-at-info-level-enabled server.trace-request-headers
    server.enable-open-metrics-text-created-samples server.cluster-validation.http.enabled
    server.cluster-validation.http.soft-validation server.cluster-validation.grpc.enabled
    server.cluster-validation.grpc.soft-validation enabled filter-gcs-spans tracing.enabled
    tracing.filter-gcs-spans"""
)
_KNOWN = (*_OWN, *_VALUES, *_SWITCHES, *_UNUSED_VALUES, *_UNUSED_SWITCHES)


def translated(arguments: Sequence[str]) -> list[str]:
    """The same command line with our flags: keys of the file as `--set KEY=VALUE`, unused ones as `--unused NAME`.

    Raises InputError for a flag that neither Promtail nor Atalaia has, and for what is no flag.
    """
    found: list[str] = []
    waiting = list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        name, equals, value = argument.lstrip("-").partition("=")
        dashes = len(argument) - len(argument.lstrip("-"))
        if dashes not in (1, 2) or not name:
            raise InputError(f"collect takes flags only, not {argument!r}", "write --config FILE, or -config.file=FILE")
        if name not in _KNOWN:
            near = get_close_matches(name, _KNOWN, 1)
            hint = f"did you mean -{near[0]}? " if near else ""
            raise InputError(f"the flag {argument.partition('=')[0]} is not known", f"{hint}see atalaia collect --help")
        if name in _VALUES or name in _UNUSED_VALUES or _OWN.get(name, ("", False))[1]:
            if not equals:
                if not waiting:
                    raise InputError(f"the flag -{name} needs a value", f"write -{name}=VALUE")
                value = waiting.pop()
            found += _valued(name, value)
        else:
            found += _switch(name, value if equals else "true")
    return found


def _valued(name: str, value: str) -> list[str]:
    if name in _OWN:
        return [f"{_OWN[name][0]}={value}"]
    return ["--unused", name] if name in _UNUSED_VALUES else [f"--set={_VALUES[name]}={value}"]


def _switch(name: str, value: str) -> list[str]:
    if value not in _YES | _NO:
        raise InputError(f"-{name}={value} is neither true nor false", f"write -{name} or -{name}=false")
    if name in _OWN:
        return [_OWN[name][0]] if value in _YES else []
    if name in _UNUSED_SWITCHES:
        return ["--unused", name]
    return [f"--set={_SWITCHES[name]}={'true' if value in _YES else 'false'}"]
