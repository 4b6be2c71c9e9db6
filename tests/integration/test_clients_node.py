"""Node's Loki clients from npm, as they are, against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from api_support import Served, Tenant, served, tenant

__all__ = ["served", "tenant"]
CLIENTS = Path(__file__).parents[1] / "clients"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run(script: str, *arguments: str) -> None:
    assert NODE is not None
    assert (CLIENTS / "node_modules").is_dir(), "`make clients` installs Node's clients"
    done = subprocess.run(
        [NODE, CLIENTS / script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_winston_loki(served: Served, tenant: Tenant, form: str) -> None:
    run("winston.mjs", served.url, tenant.name, form)
    (first,) = tenant.streams('{job="winston", level="info"}', since="1h", start="", end="")
    assert [value[1] for value in first["values"]] == ['first é {"count":5,"user":{"id":"u-1"},"level":"info"}']
    (second,) = tenant.streams('{job="winston", code="E2"}', since="1h", start="", end="")
    # The JSON form also sends what winston adds as structured metadata, of the same name as the label.
    metadata = {"level_extracted": "error"} if form == "json" else {}
    assert second["stream"] == {"job": "winston", "level": "error", "code": "E2", **metadata}
    assert [value[1] for value in second["values"]] == ['second {"level":"error"}']


def test_pino_loki(served: Served, tenant: Tenant) -> None:
    run("pino.mjs", served.url, tenant.name)
    (found,) = tenant.get("query_range", query='{job="pino"} | trace = "abc"', since="1h")["result"]
    assert (found["stream"]["app"], found["stream"]["level"], found["stream"]["n"]) == ("shop", "info", "7")
    assert json.loads(found["values"][0][1])["msg"] == "first é"
    (found,) = tenant.get("query_range", query='{job="pino", level="error"} | json', since="1h")["result"]
    assert (found["stream"]["msg"], found["stream"]["err_message"]) == ("second", "no")
