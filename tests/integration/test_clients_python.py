"""Python's log clients from PyPI, as they are, against a real server."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import logging_loki
import pytest
from api_support import Served, Tenant, served, tenant
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

__all__ = ["served", "tenant"]


@contextmanager
def logger_of(handler: logging.Handler) -> Iterator[logging.Logger]:
    """A logger of its own that logs to `handler` alone; what the handler itself meets is raised."""
    logger = logging.Logger("shop", logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


@pytest.mark.parametrize(("version", "path"), [("1", "/loki/api/v1/push"), ("0", "/api/prom/push")])
def test_python_logging_loki(served: Served, tenant: Tenant, version: str, path: str) -> None:
    handler = logging_loki.LokiHandler(url=served.url + path, tags={"app": "shop"}, version=version)
    handler.emitter.session.headers["X-Scope-OrgID"] = tenant.name
    failed: list[logging.LogRecord] = []
    handler.handleError = failed.append
    with logger_of(handler) as logger:
        logger.info("first %s", "é")
        logger.error("second", extra={"tags": {"order": "7"}})
    assert not failed
    (found,) = tenant.get("query_range", query='{app="shop", severity="info"}', since="1h")["result"]
    assert (found["stream"]["logger"], found["values"][0][1]) == ("shop", "first é")
    (found,) = tenant.get("query_range", query='{order="7"}', since="1h")["result"]
    assert (found["stream"]["severity"], found["values"][0][1]) == ("error", "second")
    assert abs(time.time_ns() - int(found["values"][0][0])) < 60 * 10**9


def test_loki_logger_handler(served: Served, tenant: Tenant) -> None:
    # It sends from a thread that ends with its process.
    script = f"""
        import logging
        from loki_logger_handler.loki_logger_handler import LokiLoggerHandler
        logger = logging.getLogger("shop")
        logger.setLevel("DEBUG")
        logger.addHandler(LokiLoggerHandler(
            url="{served.url}/loki/api/v1/push", labels={{"app": "shop"}}, label_keys={{"level": "level"}}, timeout=1,
            additional_headers={{"X-Scope-OrgID": "{tenant.name}"}}, enable_self_errors=True,
            enable_structured_loki_metadata=True, loki_metadata={{"deploy": "blue"}},
        ))
        logger.warning("first é")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = tenant.get("query_range", query='{app="shop"} | deploy = "blue" | json', since="1h")["result"]
    assert found["stream"]["message"] == "first é"


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_the_exporter_of_opentelemetry(served: Served, tenant: Tenant, compression: Compression) -> None:
    exporter = OTLPLogExporter(
        endpoint=f"{served.url}/otlp/v1/logs", headers={"X-Scope-OrgID": tenant.name}, compression=compression
    )
    provider = LoggerProvider(Resource({"service.name": "shop", "host.name": "h-1", "k8s.pod.name": "shop-1"}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("orders", "1.2", attributes={"team": "a"})
    now = time.time_ns()
    logger.emit(
        LogRecord(
            timestamp=now,
            observed_timestamp=now + 1,
            trace_id=0xABC,
            span_id=0xDEF,
            severity_text="ERROR",
            severity_number=SeverityNumber.ERROR,
            body="it broke",
            attributes={"order.id": 7, "paid": False, "tags": ["x", "y"]},
        )
    )
    logger.emit(LogRecord(timestamp=now, body={"event": "done", "n": 1}, severity_text="INFO"))
    provider.shutdown()
    (found,) = tenant.get("query_range", query='{service_name="shop"} | severity_text = "ERROR"', since="1h")["result"]
    assert found["values"] == [[str(now), "it broke"]]
    assert found["stream"] == {
        "service_name": "shop", "k8s_pod_name": "shop-1", "host_name": "h-1", "scope_name": "orders",
        "scope_version": "1.2", "team": "a", "order_id": "7", "paid": "false", "tags": '["x","y"]',
        "severity_number": "17", "severity_text": "ERROR", "observed_timestamp": str(now + 1),
        "trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}",
    }  # fmt: skip
    (found,) = tenant.get("query_range", query='{service_name="shop"} | severity_text = "INFO" | json', since="1h")[
        "result"
    ]
    assert (found["stream"]["event"], found["stream"]["n"]) == ("done", "1")
