"""client.LokiClient against the server: pages, many equal times, errors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_support import NOW, S, Served, Tenant, served, tenant

from atalaia.client.loki import LogsUnreachable, LokiClient, TooLarge
from atalaia.environment.errors import InputError

__all__ = ["served", "tenant"]


@pytest.fixture
def client(served: Served, tenant: Tenant) -> Iterator[LokiClient]:
    """Seven entries a page, as the test's tenant."""
    found = LokiClient(served.url, page=7)
    found._http.headers["X-Scope-OrgID"] = tenant.name
    yield found
    found.close()


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("equal", [1, 7, 8, 60])
def test_each_entry_is_given_once(
    client: LokiClient, tenant: Tenant, rng: random.Random, equal: int, newest_first: bool
) -> None:
    pushed: dict[str, list[tuple[int, str]]] = {"a": [], "b": [], "c": []}
    for number in range(60):
        app = rng.choice("abc")
        pushed[app].append((NOW + number // equal, str(number)))
    # Streams of one moment arrive mixed.
    for at in range(0, 60, 10):
        for app, entries in pushed.items():
            some = [entry for entry in entries if at <= int(entry[1]) < at + 10]
            if some:
                tenant.push({"app": app}, some)
    found = list(client.entries('{app=~".+"}', start=NOW, end=NOW + S, newest_first=newest_first))
    assert sorted(int(entry.line) for entry in found) == list(range(60))
    times = [entry.ts for entry in found]
    assert times == sorted(times, reverse=newest_first)
    for app, entries in pushed.items():
        own = [entry.line for entry in found if entry.labels["app"] == app]
        expected = [line for _, line in entries]
        assert own == (expected[::-1] if newest_first else expected)
    for limit in (1, 7, 8, 59, 100):
        some_found = list(client.entries('{app=~".+"}', start=NOW, end=NOW + S, limit=limit, newest_first=newest_first))
        assert len(some_found) == min(limit, 60)
        assert len({entry.line for entry in some_found}) == len(some_found)
        assert [entry.ts for entry in some_found] == times[:limit]


def test_equal_lines_of_one_moment_are_not_taken_for_one(client: LokiClient, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, "same")] * 30)
    for newest_first in (False, True):
        assert len(list(client.entries('{app="a"}', start=NOW, end=NOW + 1, newest_first=newest_first))) == 30


def test_more_of_one_moment_than_a_page_of_the_default_size(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, str(number)) for number in range(6000)])
    client = LokiClient(served.url)
    client._http.headers["X-Scope-OrgID"] = tenant.name
    found = [entry.line for entry in client.entries('{app="a"}', start=NOW, end=NOW + 1)]
    client.close()
    assert found == [str(number) for number in range(6000)]


def test_pages_become_smaller_where_answers_would_be_too_large(tmp_path: Path) -> None:
    server = Served(tmp_path, "--limit", "answer_size=1MiB")
    try:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            Tenant(http, "fake").push({"app": "a"}, [(NOW + n, f"{n} " + "x" * 50_000) for n in range(100)])
        client = LokiClient(server.url)
        found = [int(entry.line.split()[0]) for entry in client.entries('{app="a"}', start=NOW, end=NOW + S)]
        assert found == list(range(100))
        with pytest.raises(TooLarge, match="answer_size"):
            list(client.page('{app="a"}', start=NOW, end=NOW + S, limit=100, newest_first=False))
        client.close()
    finally:
        assert server.stop() == 0


def test_an_entry_has_its_labels_and_metadata(client: LokiClient, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, '{"k":"v"}', {"pid": "7"})])
    (entry,) = client.entries('{app="a"} | json', start=NOW, end=NOW + 1)
    assert (entry.ts, entry.line, entry.labels) == (NOW, '{"k":"v"}', {"app": "a"})
    assert entry.metadata == {"pid": "7", "k": "v"}
    assert list(client.entries('{app="none"}', start=NOW, end=NOW + 1)) == []


def test_errors(client: LokiClient, served: Served) -> None:
    with pytest.raises(InputError, match="parse error at line 1, col 2: syntax error"):
        client.query("{")
    with pytest.raises(InputError, match="gives numbers, not lines"):
        list(client.entries('rate({a="b"}[1m])', start=NOW, end=NOW + S))
    nobody = LokiClient("http://127.0.0.1:1")
    with pytest.raises(LogsUnreachable, match="does not answer"):
        nobody.query("vector(1)")
    nobody.close()
    assert httpx.get(f"{served.url}/ready", trust_env=False).status_code == 200
