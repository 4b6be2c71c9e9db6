from __future__ import annotations

import gzip
import json
import logging
import os
import ssl
import threading
import time
from pathlib import Path

import httpx
import logging_loki
import pytest
from tests.integration.listeners_support import CERTIFICATES, Opened, opened, shown
from tests.unit.api.bodies import json_push, protobuf

from atalaia.collector.listeners import web

TEXT = "{server: {http_listen_address: 127.0.0.1, http_listen_port: 0}, labels: {via: collector}, %s}"
KEEP = TEXT % "use_incoming_timestamp: true"
NOW = time.time_ns()


def post(found: Opened, path: str, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"http://127.0.0.1:{found.port}{path}", content=body, headers=named, timeout=10)


def test_pushes_of_every_kind_are_kept_with_the_listeners_labels(tmp_path: Path) -> None:
    with opened(tmp_path, "loki_push_api", KEEP, shown("__hidden=seen")) as found:
        first = protobuf({'{app="a", __hidden="x"}': [(NOW, "protobuf", {"trace": "t1"})]})
        assert post(found, "/loki/api/v1/push", first, content_type="application/x-protobuf").status_code == 204
        second = gzip.compress(json_push({"app": "b", "via": "overwritten"}, [(NOW + 1, "json\nof two lines")]))
        answer = post(found, "/loki/api/v1/push", second, content_type="application/json", content_encoding="gzip")
        assert answer.status_code == 204
        old = json.dumps(
            {"streams": [{"labels": '{app="c"}', "entries": [{"ts": "2026-11-22T00:00:00Z", "line": "old"}]}]}
        )
        assert post(found, "/api/prom/push", old.encode(), content_type="application/json").status_code == 204
        assert post(found, "/promtail/api/v1/raw", b"raw 1\r\n\nraw 2").status_code == 204
        # Answered means that it is in the spool.
        assert found.lines() == ["protobuf", "json\nof two lines", "old", "raw 1", "raw 2"]
        assert found.labels() == [
            {"app": "a", "seen": "x", "via": "collector"},
            {"app": "b", "via": "collector"},
            {"app": "c", "via": "collector"},
            {"via": "collector"},
            {"via": "collector"},
        ]
        entries = found.entries()
        assert entries.ts.tolist()[:3] == [NOW, NOW + 1, 1795305600 * 10**9]
        assert entries.metadata["trace"].to_pylist() == ["t1", None, None, None, None]
        assert found.counted("promtail_push_target_entries_total") == 5
        assert httpx.get(f"http://127.0.0.1:{found.port}/ready").text == "ready"


def test_without_the_incoming_time_each_entry_gets_one_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path, "loki_push_api", TEXT % "") as found:
        body = json_push({"app": "a"}, [(1, "same"), (1, "same"), (1, "same")])
        assert post(found, "/loki/api/v1/push", body, content_type="application/json").status_code == 204
        times = found.entries().ts.tolist()
        assert len(set(times)) == 3
        assert min(times) >= NOW


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"nothing", {"content_type": "application/json"}, 400),
        (b"nothing", {"content_type": "application/x-protobuf"}, 400),
        (b"{}", {"content_type": "text/html"}, 400),
        (b"x", {"content_type": "application/json", "content_encoding": "gzip"}, 400),
        (b'{"streams": []}', {"content_type": "application/json"}, 422),
        (b"x" * 5000, {"content_type": "application/json"}, 413),
    ],
)
def test_what_is_no_push_is_refused(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MOST_BODY", 4000)
    with opened(tmp_path, "loki_push_api", KEEP) as found:
        assert post(found, "/loki/api/v1/push", body, **headers).status_code == status
        assert found.lines() == []


def test_entries_of_a_wrong_label_set_are_refused_and_the_others_kept(tmp_path: Path) -> None:
    with opened(tmp_path, "loki_push_api", KEEP) as found:
        body = protobuf({'{app="a"}': [(NOW, "good")], "{a b}": [(NOW, "bad")]})
        answer = post(found, "/loki/api/v1/push", body, content_type="application/x-protobuf")
        assert answer.status_code == 400
        assert "1 entries refused" in answer.text
        assert found.lines() == ["good"]


def test_a_full_spool_asks_to_come_again_and_nothing_of_the_push_stays(tmp_path: Path) -> None:
    with opened(tmp_path, "loki_push_api", KEEP, most=200_000, segment=100_000) as found:
        body = json_push({"app": "a"}, [(NOW, "x" * 50_000)])
        answers = [post(found, "/loki/api/v1/push", body, content_type="application/json") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [204, 204, 204, 429, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert len(found.lines()) == 3


def test_a_push_is_answered_only_once_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        go.wait(10)
        real(descriptor)

    with opened(tmp_path, "loki_push_api", KEEP) as found:
        monkeypatch.setattr(os, "fdatasync", slow)
        body = json_push({"app": "a"}, [(NOW, "x")])
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"http://127.0.0.1:{found.port}/loki/api/v1/push", content=body, timeout=0.3,
                       headers={"Content-Type": "application/json"})  # fmt: skip
        go.set()
        assert post(found, "/loki/api/v1/push", body, content_type="application/json").status_code == 204


def test_a_real_client_pushes_through_it(tmp_path: Path) -> None:
    with opened(tmp_path, "loki_push_api", KEEP) as found:
        url = f"http://127.0.0.1:{found.port}/loki/api/v1/push"
        handler = logging_loki.LokiHandler(url=url, tags={"app": "shop"}, version="1")
        logger = logging.Logger("shop", logging.DEBUG)
        logger.addHandler(handler)
        logger.error("order %d failed", 7)
        handler.close()
        assert found.lines() == ["order 7 failed"]
        assert found.labels()[0]["app"] == "shop"


def test_tls_of_a_push_server_asks_for_certificates(tmp_path: Path) -> None:
    pem = {"cert_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem"}
    files = ", ".join(f"{key}: {CERTIFICATES}/{name}" for key, name in pem.items())
    text = f"{{server: {{http_listen_address: 127.0.0.1, http_listen_port: 0, http_tls_config: {{{files}}}}}}}"
    with opened(tmp_path, "loki_push_api", text) as found:
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        url = f"https://127.0.0.1:{found.port}/promtail/api/v1/raw"
        with pytest.raises(httpx.TransportError):
            httpx.post(url, content=b"never", verify=context)
        context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
        assert httpx.post(url, content=b"secret", verify=context).status_code == 204
        assert found.lines() == ["secret"]
