"""Promtail's sources and discoveries that are not built, each with what its users can do instead."""

from __future__ import annotations

from collections.abc import Mapping

_PUSHED = "let {0} push to a job with loki_push_api, or to the store itself"
_LISTED = "write the targets to a file that file_sd_configs names: it is read again whenever it changes"
_PODS = (
    "on each node collect the files: static_configs with `__path__: /var/log/pods/*/*/*.log`, stages `cri` and "
    "`regex` on `source: filename` for namespace, pod and container (docs/from-promtail.md has it whole)"
)
REFUSED: Mapping[str, str] = {
    "azure_event_hub": _PUSHED.format("Fluent Bit or the OpenTelemetry collector"),
    "azure_event_hubs": _PUSHED.format("Fluent Bit or the OpenTelemetry collector"),
    "cloudflare": _PUSHED.format("Cloudflare's Logpush, through a small forwarder,"),
    "gcplog": _PUSHED.format("a Pub/Sub subscriber such as Vector"),
    "heroku_drain": "let Heroku drain to a job with syslog, which takes the same lines over TLS",
    "kafka": _PUSHED.format("a consumer such as Vector or Fluent Bit"),
    "windows_events": _PUSHED.format("Fluent Bit or Alloy on the Windows machine"),
    "kubernetes_sd_configs": _PODS,
    "azure_sd_configs": _LISTED,
    "consul_sd_configs": _LISTED,
    "consulagent_sd_configs": _LISTED,
    "digitalocean_sd_configs": _LISTED,
    "dns_sd_configs": _LISTED,
    "dockerswarm_sd_configs": "use docker_sd_configs on each node of the swarm",
    "ec2_sd_configs": _LISTED,
    "gce_sd_configs": _LISTED,
    "marathon_sd_configs": _LISTED,
    "nerve_sd_configs": _LISTED,
    "openstack_sd_configs": _LISTED,
    "serverset_sd_configs": _LISTED,
    "triton_sd_configs": _LISTED,
}
