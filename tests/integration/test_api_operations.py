"""What is told about the server: /metrics, /config, /services, /log_level, /ready, buildinfo."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from api_support import NOW, S, Served, Tenant, assert_quiet, served, tenant
from prometheus_client import parser as text_format
from prometheus_client.openmetrics import parser as openmetrics

__all__ = ["served", "tenant"]
OPEN = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(tenant: Tenant) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels, read by Prometheus' own parser."""
    answer = tenant.call("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = list(text_format.text_string_to_metric_families(answer.text))
    assert all(family.documentation and family.type in ("counter", "gauge", "histogram") for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0)


def test_pushes_are_counted_by_tenant(tenant: Tenant) -> None:
    tenant.push({"a": "b"}, [(NOW, "12345"), (NOW, "é", {"key": "val"})])
    entries = [[str(NOW), "x" * 2_000_000], [str(NOW), "fits"], [str(NOW * 5), "future"]]
    body = {"streams": [{"stream": {"a": "b"}, "values": entries}, {"stream": {}, "values": [[str(NOW), "z"]]}]}
    assert tenant.call("/loki/api/v1/push", "POST", json=body).status_code == 400
    found, name = scrape(tenant), tenant.name
    assert value(found, "loki_distributor_lines_received_total", tenant=name) == 6
    assert value(found, "loki_distributor_bytes_received_total", tenant=name) == 5 + 2 + 6 + 2_000_000 + 4 + 6 + 1
    assert value(found, "loki_distributor_structured_metadata_bytes_received_total", tenant=name) == 6
    discarded = {
        dict(labels)["reason"]: count
        for (sample, labels), count in found.items()
        if sample == "loki_discarded_samples_total" and dict(labels)["tenant"] == name
    }
    assert discarded == {"line_too_long": 1, "time_out_of_range": 1, "invalid_labels": 1}


def test_requests_are_counted_and_measured(tenant: Tenant) -> None:
    labels = {"method": "GET", "route": "loki_api_v1_label_name_values", "status_code": "400", "ws": "false"}
    name = "loki_request_duration_seconds"
    before = scrape(tenant)
    tenant.refused("label/x/values", start="x")
    tenant.refused("label/x/values", start="x")
    after = scrape(tenant)
    assert value(after, f"{name}_count", **labels) - value(before, f"{name}_count", **labels) == 2
    assert value(after, f"{name}_bucket", **labels, le="+Inf") == value(after, f"{name}_count", **labels)
    buckets = sorted(
        (float(dict(k[1])["le"]), v) for k, v in after.items() if k[0] == f"{name}_bucket" and labels.items() <= k[1]
    )
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert value(after, f"{name}_sum", **labels) > value(before, f"{name}_sum", **labels)
    assert value(after, "loki_inflight_requests", method="GET", route="metrics") == 1
    assert value(after, "loki_inflight_requests", method="GET", route="loki_api_v1_label_name_values") == 0


def test_the_process_and_the_store(served: Served, tenant: Tenant) -> None:
    tenant.push({"a": "b"}, [(NOW, "x")])
    found = scrape(tenant)
    proc = Path(f"/proc/{served.process.pid}")
    resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert value(found, "process_resident_memory_bytes") == pytest.approx(resident, rel=0.2)
    assert abs(value(found, "process_open_fds") - len(os.listdir(proc / "fd"))) <= 5
    began = value(found, "process_start_time_seconds")
    assert began == pytest.approx(os.stat(proc).st_ctime, abs=30)
    assert value(found, "process_cpu_seconds_total") > 0.1
    state = tenant.call("/atalaia/v1/store").json()
    assert value(found, "atalaia_store_entries") <= state["rows"]
    assert value(found, "atalaia_store_streams") >= 1
    assert value(found, "atalaia_store_wal_bytes") > 0
    assert value(found, "atalaia_store_ready") == 1
    queues = {dict(labels)["queue"]: n for (name, labels), n in found.items() if name == "atalaia_queries_running"}
    assert set(queues) == {dict(k[1])["queue"] for k in found if k[0] == "atalaia_queries_waiting"} != set()
    assert value(found, "atalaia_store_wal_append_seconds_count") > 0
    assert value(found, "atalaia_store_segments_to_compact") <= value(found, "atalaia_store_segments") + 1
    # Flushed, the entries are in segments.
    assert tenant.call("/flush", "POST").status_code == 204
    assert value(scrape(tenant), "atalaia_store_segments") >= 1


def test_openmetrics(tenant: Tenant) -> None:
    odd = Tenant(tenant.http, "o'(dd)!")
    odd.push({"a": "b"}, [(NOW, "x")])
    answer = tenant.call("/metrics", headers={"Accept": OPEN})
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(answer.text)}
    lines = families["loki_distributor_lines_received"]
    assert lines.type == "counter"
    assert {s.name for s in lines.samples} == {"loki_distributor_lines_received_total"}
    assert [s.value for s in lines.samples if s.labels == {"tenant": "o'(dd)!"}] == [1]


def test_build_config_and_services(tenant: Tenant) -> None:
    build = tenant.call("/loki/api/v1/status/buildinfo").json()
    assert set(build) == {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    assert all(isinstance(text, str) for text in build.values())
    config = yaml.safe_load(tenant.call("/config").text)
    assert config["store"]["limits"]["line"] == 1 << 20
    assert config["queries"]["seconds"] > 0
    services = tenant.call("/services").text.splitlines()
    assert services == ["api => Running", "commit => Running", "flush => Running", "maintenance => Running"]


def test_log_level(tmp_path: Path) -> None:
    server = Served(tmp_path)
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        try:
            assert client.get("/log_level").json() == {"message": "Current log level is info"}
            answer = client.post("/log_level", data={"log_level": "debug"}).json()
            assert answer == {"message": "Log level set to debug", "status": "success"}
            assert client.get("/log_level").json() == {"message": "Current log level is debug"}
            wrong = client.post("/log_level?log_level=loud")
            assert (wrong.status_code, wrong.json()["status"]) == (400, "failed")
            assert client.post("/log_level?log_level=error").json()["status"] == "success"
        finally:
            assert server.stop() == 0
    assert_quiet(server)
    assert any("event=log_level level=debug" in line for line in server.errors)
    assert not any("event=stopped" in line for line in server.errors)


def test_ready_tells_why_it_is_not(tmp_path: Path) -> None:
    server = Served(tmp_path, "--limit", "disk_floor=1000TiB")
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        try:
            answer = client.get("/ready")
            assert answer.status_code == 503
            assert f"less than the floor of {1000 << 40}" in answer.text
            assert "atalaia_store_ready 0" in client.get("/metrics").text
            body = json.dumps({"streams": [{"stream": {"a": "b"}, "values": [[str(NOW * 1 + S), "x"]]}]})
            pushed = client.post("/loki/api/v1/push", content=body, headers={"Content-Type": "application/json"})
            assert pushed.status_code == 503
        finally:
            assert server.stop() == 0
