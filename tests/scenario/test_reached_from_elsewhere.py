"""An environment whose store other machines reach: nobody gets in unasked, and all of its own parts do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx

from atalaia.client.loki import LokiClient
from atalaia.environment.connection import Connection, connection_of
from atalaia.environment.load import load
from tests.scenario.support import Home, wait_for

CERTIFICATES = Path(__file__).parents[1] / "integration" / "certificates"


def test_an_environment_that_others_reach(environment: Home) -> None:
    folder = environment.folder
    for suffix in ("pem", "key"):
        shutil.copy(CERTIFICATES / f"elsewhere.{suffix}", folder / f"own.{suffix}")
    (folder / "atalaia.toml").write_text(
        '[servers.postgres_a]\n[collection]\ntargets = ["varlog/*log"]\n'
        '[logs]\nlisten = "0.0.0.0"\n[logs.tls]\ncertificate = "own.pem"\nkey = "own.key"\n'
    )
    assert "atalaia access add" in environment.run("up", code=2).stderr
    token = environment.run("access", "add", "ann", "--tenant", "fake").stdout.strip()
    environment.run("up")
    secrets = environment.state / "secrets"
    for name in ("access.json", "own.token"):
        assert (secrets / name).stat().st_mode & 0o777 == 0o600
    (environment.varlog / "app.log").write_text("a line for all\n")
    own = connection_of(load(folder / "atalaia.toml"))
    assert own is not None
    client = LokiClient(own)
    wait_for(
        lambda: bool(list(client.entries('{job="varlogs"}', start=0, end=2**62))), "the collector's entries are stored"
    )
    client.close()
    assert "a line for all" in environment.run("query", '{job="varlogs"}').stdout
    assert "database system is ready" in environment.run("logs", "-n", "500").stdout
    for command in (("diagnose",), ("status",), ("doctor",), ("runbook", "--language", "en")):
        done = environment.run(*command, code=None)
        assert (done.returncode, "not let" in done.stdout + done.stderr) == (0, False), (command, done.stdout)
    # Somebody else: through the machine's address, with what they were given.
    base = own.base
    assert base.startswith("https://127.0.0.1:")
    pinned = Connection(base, pinned=folder / "own.pem")
    stranger = LokiClient(pinned)
    try:
        assert stranger.send("GET", "/ready", {}).text == "ready\n"
    finally:
        stranger.close()
    variables = {**os.environ, "LOKI_BEARER_TOKEN": token}
    found = _asked(environment, base, variables)
    assert "does not answer" in found  # its certificate is for another name, and nobody whom we know signed it
    context = httpx.create_ssl_context(verify=False)
    with httpx.Client(verify=context, trust_env=False) as careless:
        assert careless.get(f"{base}/loki/api/v1/labels").status_code == 401
        answer = careless.get(f"{base}/loki/api/v1/labels", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert careless.post(f"{base}/flush", headers={"Authorization": f"Bearer {token}"}).status_code == 403
        environment.run("access", "revoke", "ann")
        answer = careless.get(f"{base}/loki/api/v1/labels", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    assert json.loads(environment.run("access", "list", "--json").stdout)["principals"] == []
    assert all(token not in path.read_text() for path in (environment.state / "log").glob("*"))


def _asked(environment: Home, base: str, variables: dict[str, str]) -> str:
    import subprocess
    import sys

    command = [sys.executable, "-m", "atalaia", "query", '{job="varlogs"}', "--url", base]
    done = subprocess.run(command, cwd=environment.folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr
