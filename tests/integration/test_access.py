"""Who may ask a served store: every route with every scope, tokens, passwords, changes while it runs."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import httpx
import pytest
from access_support import Secured, access, trusting
from api_support import NOW, Served, assert_quiet
from starlette.routing import Route, WebSocketRoute

from atalaia.api.app import create
from atalaia.environment.principals import SCOPES

V1 = "/loki/api/v1"
# The whole policy once more, by scope: a route that is not here fails the test until somebody decides about it.
ROUTES = {
    "open": {"/ready"},
    "known": {f"{V1}/status/buildinfo", f"{V1}/format_query"},
    "push": {
        f"{V1}/push", "/otlp/v1/logs", f"{V1}/otlp/v1/logs", "/api/prom/push", "/atalaia/v1/positions",
    },
    "read": {
        *(f"{V1}/{name}" for name in (
            "query", "query_range", "labels", "label", "label/{}/values", "series", "tail", "index/stats",
            "index/volume", "index/volume_range", "patterns", "detected_fields", "detected_field/{}/values",
            "detected_labels", "rules", "rules/{}", "rules/{}/{}",
        )),
        *(f"/api/prom/{name}" for name in (
            "query", "label", "label/{}/values", "series", "tail", "rules", "rules/{}", "rules/{}/{}",
        )),
        "/atalaia/v1/explain", "/atalaia/v1/recorded", "/prometheus/api/v1/rules", "/prometheus/api/v1/alerts",
        "/prometheus/api/v1/{}",
    },
    "delete": {f"{V1}/delete"},
    "metrics": {"/metrics"},
    "admin": {
        "/config", "/services", "/log_level", "/flush", "/atalaia/v1/store", "/atalaia/v1/queries",
        "/atalaia/v1/queries/{}",
    },
}  # fmt: skip
# Routes that change something are of another scope than those that show it.
CHANGING = {f"{V1}/rules/{{}}": "admin", "/api/prom/rules/{}": "admin"}


@dataclass
class House:
    """A running store, and the tokens that open it by name."""

    served: Served
    file: Path
    tokens: dict[str, str]
    client: httpx.Client

    def ask(
        self, who: str | None, path: str, method: str = "GET", tenant: str | None = None, **options: object
    ) -> httpx.Response:
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens[who]}"}
        headers |= {} if tenant is None else {"X-Scope-OrgID": tenant}
        return self.client.request(method, f"{self.served.url}{path}", headers=headers, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    file = folder / "access.json"
    tokens = {}
    for scope in SCOPES:
        tokens[scope] = access("add", scope, "--tenant", "a", "--scope", scope, "--access", str(file))
    tokens["both"] = access("add", "both", "--tenant", "a", "--tenant", "b", "--access", str(file))
    tokens["all"] = access("add", "all", "--all-tenants", "--scope", ",".join(SCOPES), "--access", str(file))
    access("add", "pat", "--tenant", "a", "--password", "--access", str(file), given="correct horse\n")
    served = Secured(folder / "store", "--access", str(file))
    try:
        with trusting() as client:
            yield House(served, file, tokens, client)
    finally:
        assert served.stop() == 0
        assert_quiet(served)
        told = "".join(served.errors)
        for secret in (*tokens.values(), "correct horse", "staple", "nonsense"):
            assert secret not in told


def _routes() -> list[tuple[str, str, bool]]:
    """(path, method, websocket) of all that an application answers."""
    found = []
    for route in create(MagicMock()).routes:  # that states its routes, and answers nothing
        assert isinstance(route, Route | WebSocketRoute), route
        methods = sorted(route.methods or ()) if isinstance(route, Route) else ["GET"]
        found += [(route.path, method, isinstance(route, WebSocketRoute)) for method in methods]
    return found


def _wanted(path: str, method: str) -> str:
    path = re.sub(r"\{[^}]*\}", "{}", path)
    if path in CHANGING and method not in ("GET", "HEAD"):
        return CHANGING[path]
    if path == "/api/prom/{}":
        return "known"
    (found,) = [scope for scope, paths in ROUTES.items() if path in paths] or [f"nobody decided about {path}"]
    return found


def test_every_route_with_every_scope(house: House) -> None:
    wrong = []
    for path, method, websocket in _routes():
        wanted = _wanted(path, method)
        url = re.sub(r"\{[^}]*\}", "x", path)
        if websocket or method == "HEAD":
            continue
        for who in (None, *SCOPES):
            answer = house.ask(who, url, method)
            denied = answer.status_code in (401, 403)
            implied = {wanted, "admin"} if wanted == "metrics" else {wanted}
            may = wanted == "open" or (who is not None and (wanted == "known" or who in implied))
            if denied is may or (denied and "www-authenticate" not in answer.headers):
                wrong.append((who, method, path, wanted, answer.status_code))
            if denied:
                assert answer.status_code == (401 if who is None else 403)
    assert not wrong


def test_websockets_are_asked_too(house: House) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    sockets = [path for path, _, websocket in _routes() if websocket]
    for path in sockets:
        assert _wanted(path, "GET") == "read"
        for who, tenant, status in ((None, None, 401), ("push", None, 403), ("read", "b", 403), ("read", None, 400)):
            headers = dict(upgrade)
            if who:
                headers["Authorization"] = f"Bearer {house.tokens[who]}"
            if tenant:
                headers["X-Scope-OrgID"] = tenant
            # 400: it is let in, and there is no query.
            assert house.client.get(f"{house.served.url}{path}", headers=headers).status_code == status


def test_what_is_missing_is_told(house: House) -> None:
    push = {"streams": [{"stream": {"app": "a"}, "values": [[str(NOW), "x"]]}]}
    answer = house.ask(None, f"{V1}/labels")
    assert answer.headers.get_list("www-authenticate") == [
        'Bearer realm="atalaia"',
        'Basic realm="atalaia", charset="UTF-8"',
    ]
    assert "send a bearer token" in answer.text
    assert house.ask("read", f"{V1}/push", "POST", json=push).text == "read lacks the scope 'push'\n"
    assert house.ask("push", f"{V1}/push", "POST", "b", json=push).text == "push has no right to the tenant 'b'\n"
    assert house.ask("read", f"{V1}/labels", tenant="a|b").text == "read has no right to the tenant 'b'\n"
    answer = house.ask("both", f"{V1}/labels")
    assert (answer.status_code, "one of: a, b" in answer.text) == (400, True)
    assert house.ask("both", f"{V1}/labels", tenant="b|a").status_code == 200
    assert house.ask("read", f"{V1}/labels", tenant="a b").status_code == 400
    assert house.ask("read", "/nowhere").status_code == 404
    assert house.ask(None, "/nowhere").status_code == 401


def test_the_only_tenant_needs_no_name(house: House) -> None:
    push = {"streams": [{"stream": {"app": "only"}, "values": [[str(NOW), "x"]]}]}
    assert house.ask("push", f"{V1}/push", "POST", json=push).status_code == 204
    query = {"query": '{app="only"}', "start": NOW - 10**9, "end": NOW + 10**9}
    assert len(house.ask("read", f"{V1}/query_range", params=query).json()["data"]["result"]) == 1
    assert len(house.ask("all", f"{V1}/query_range", tenant="a", params=query).json()["data"]["result"]) == 1
    assert house.ask("all", f"{V1}/query_range", params=query).json()["data"]["result"] == []


def _basic(house: House, user: str, password: str) -> int:
    return house.client.get(f"{house.served.url}{V1}/labels", auth=(user, password)).status_code


def test_passwords(house: House) -> None:
    assert _basic(house, "pat", "correct horse") == 200
    assert _basic(house, "pat", "staple") == 401
    assert _basic(house, "pat", "") == 401
    assert _basic(house, "nobody", "correct horse") == 401
    assert _basic(house, "read", house.tokens["read"]) == 200  # a token as a password
    assert _basic(house, "read", house.tokens["push"]) == 401
    for header in ("Basic nonsense", "Basic bm9uc2Vuc2U=", "Bearer nonsense", "Bearer", "Digest x", "Basic /w=="):
        answer = house.client.get(f"{house.served.url}{V1}/labels", headers={"Authorization": header})
        assert answer.status_code == 401, header


def test_who_guesses_passwords_is_made_to_wait_and_others_are_not(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    access("add", "pat", "--tenant", "a", "--password", "--access", str(file), given="correct horse\n")
    token = access("add", "tom", "--tenant", "a", "--access", str(file))
    served = Secured(tmp_path / "store", "--access", str(file))
    try:
        with trusting() as client:
            _guess(House(served, file, {"tom": token}, client))
    finally:
        assert served.stop() == 0
    told = [line for line in served.errors if "event=access_denied" in line]
    assert len(told) <= 2, told  # and not ten
    assert "battery" not in "".join(served.errors)


def _guess(house: House) -> None:
    assert _basic(house, "pat", "correct horse") == 200
    seen = [_basic(house, "pat", f"battery {number}") for number in range(11)]
    assert seen == [401] * 10 + [429]
    assert _basic(house, "pat", "correct horse") == 200  # known already
    assert house.ask("tom", f"{V1}/labels").status_code == 200


def test_a_running_store_knows_who_comes_and_goes(house: House) -> None:
    house.tokens["new"] = access("add", "new", "--tenant", "a", "--access", str(house.file))
    assert house.ask("new", f"{V1}/labels").status_code == 200
    access("revoke", "new", "--access", str(house.file))
    assert house.ask("new", f"{V1}/labels").status_code == 401
    good = house.file.read_bytes()
    try:
        house.file.write_text("{")
        assert house.ask("read", f"{V1}/labels").status_code == 200  # those that were known
        house.file.unlink()
        assert house.ask("read", f"{V1}/labels").status_code == 401
        assert house.ask(None, "/ready").status_code == 200
    finally:
        house.file.write_bytes(good)
        house.file.chmod(0o600)
    assert house.ask("read", f"{V1}/labels").status_code == 200
    deadline = time.monotonic() + 20
    while not any("event=access_unreadable" in line for line in house.served.errors):
        assert time.monotonic() < deadline, "nobody was told of the damaged file"
        time.sleep(0.02)
    house.served.errors[:] = [line for line in house.served.errors if "event=access_unreadable" not in line]


def test_mistakes_of_the_command(tmp_path: Path) -> None:
    file = str(tmp_path / "access.json")
    add = ("add", "ann", "--access", file)
    assert "say which tenants" in access(*add, code=2)
    assert "say which tenants" in access(*add, "--tenant", "a", "--all-tenants", code=2)
    assert "is not a tenant's name" in access(*add, "--tenant", "a|b", code=2)
    assert "--scope 'write' is not known" in access(*add, "--tenant", "a", "--scope", "read,write", code=2)
    assert "fewer than 8" in access(*add, "--tenant", "a", "--password", code=2, given="short\n")
    assert "there is no 'ann'" in access("revoke", "ann", "--access", file, code=2)
    assert not Path(file).exists()
    assert access(*add, "--tenant", "a").startswith("atalaia_")
    assert "there is 'ann' already" in access(*add, "--tenant", "a", code=2)
    assert '"scopes": [\n        "read"' in access("list", "--json", "--access", file)
    assert "sha256" not in access("list", "--json", "--access", file)
