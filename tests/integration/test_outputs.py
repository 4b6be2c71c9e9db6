"""Outputs against real HTTP servers: what each answer leads to, who is asked with which credentials, tenants."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from api_support import NOW, Served, served
from scripted_server import Asked, Reply, Scripted

from atalaia.collector.meters import Meters
from atalaia.collector.outputs import atalaia as atalaia_module
from atalaia.collector.outputs.access import Access, OAuth2, Proxy, Secret, Tls
from atalaia.collector.outputs.atalaia import AtalaiaSink
from atalaia.collector.outputs.client import client
from atalaia.collector.outputs.connect import connect
from atalaia.collector.outputs.loki import LokiSink
from atalaia.collector.outputs.sink import Answer, Delivery, Origin, Rows, Sink, Unreachable
from atalaia.collector.plan import Output
from atalaia.environment.errors import InputError
from atalaia.store.batch import METADATA, SCHEMA, Source, canonical

__all__ = ["served"]
CERTIFICATES = Path(__file__).with_name("certificates")


@pytest.fixture
def loki() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


@contextlib.contextmanager
def sink_of(output: Output, meters: Meters | None = None) -> Iterator[Sink]:
    made = connect(output, meters)
    try:
        yield made
    finally:
        made.close()


def table_of(lines: Sequence[str], first: int = 0) -> pa.Table:
    columns = [
        pa.array(NOW + first + np.arange(len(lines))),
        pa.array([canonical({"job": "j"})] * len(lines), pa.utf8()).dictionary_encode(),
        pa.array(lines, pa.utf8()),
        pa.nulls(len(lines), METADATA),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def origin_of(count: int, start: int = 0) -> Origin:
    """Rows of one line each, ten bytes long."""
    return Origin(np.arange(count), np.arange(count), lambda line: start + 10 * line)


def push(
    sink: Sink, lines: Sequence[str], tenants: Sequence[str | None] | None = None, source: str = "s", start: int = 0
) -> Delivery:
    """A batch of one source, ten bytes a line."""
    sources = [Source(source, start, start + 10 * len(lines))]
    named = None if tenants is None else pa.array(tenants, pa.utf8())
    return sink.prepare(table_of(lines, start // 10), sources, Rows((origin_of(len(lines), start),), named))


def counted(meters: Meters, name: str, **labels: str) -> float:
    found = meters.registry.get_sample_value(name, labels)
    return found or 0.0


# -- what a Loki answers


def test_protobuf_unless_the_server_does_not_know_it(loki: Scripted) -> None:
    loki.otherwise = lambda asked: Reply(415 if "protobuf" in asked.headers["content-type"] else 204)
    with sink_of(Output(loki.url)) as sink:
        assert isinstance(sink, LokiSink)
        before = push(sink, ["a", "b"]), push(sink, ["c"])
        assert [delivery() for delivery in before] == [Answer(), Answer()]
        assert push(sink, ["d"])() == Answer()
    kinds = [asked.headers["content-type"].partition("/")[2] for asked in loki.asked]
    assert kinds == ["x-protobuf", "json", "x-protobuf", "json", "json"]
    assert [asked.lines for asked in loki.asked] == [["a", "b"], ["a", "b"], ["c"], ["c"], ["d"]]
    loki.asked.clear()
    with sink_of(Output(loki.url, format="json")) as sink:
        push(sink, ["d"])()
    assert [asked.headers["content-type"] for asked in loki.asked] == ["application/json"]


def test_a_push_that_is_too_large_is_halved(loki: Scripted) -> None:
    loki.otherwise = lambda asked: Reply(413 if len(asked.lines) > 3 or "long" in asked.lines else 204)
    meters = Meters()
    with sink_of(Output(loki.url, batch_size=10_000), meters) as sink:
        lines = [*map(str, range(10)), "long", *map(str, range(10, 16))]
        answer = push(sink, lines)()
    taken = [asked.lines for asked in loki.asked if len(asked.lines) <= 3 and "long" not in asked.lines]
    assert [line for some in taken for line in some] == [line for line in lines if line != "long"]
    assert answer.refused == "1 entries: 413"
    host = f"127.0.0.1:{loki.port}"
    dropped = {"host": host, "tenant": "", "reason": "line_too_long"}
    assert counted(meters, "promtail_dropped_entries_total", **dropped) == 1
    assert counted(meters, "promtail_dropped_bytes_total", **dropped) == 4
    assert counted(meters, "promtail_sent_entries_total", host=host) == 16


@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_for_its_content_is_told_and_not_sent_again(loki: Scripted, status: int) -> None:
    loki.replies = [Reply(), Reply(status, body=b"entry too old"), Reply()]
    meters = Meters()
    with sink_of(Output(loki.url, batch_size=10), meters) as sink:
        answer = push(sink, ["1234567", "2234567", "3234567"])()
    assert answer == Answer(refused=f"1 entries: {status} entry too old")
    assert loki.lines == ["1234567", "2234567", "3234567"]
    given = {"host": f"127.0.0.1:{loki.port}", "tenant": "", "reason": "ingester_error"}
    assert counted(meters, "promtail_dropped_entries_total", **given) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 429, 500, 502, 503, 504, 302])
def test_what_may_become_better_is_sent_again(loki: Scripted, status: int) -> None:
    with sink_of(Output(loki.url, batch_size=10)) as sink:
        loki.replies = [Reply(), Reply(status), Reply(status)]
        delivery = push(sink, ["1234567", "2234567"])
        for _ in range(2):
            with pytest.raises(Unreachable, match=str(status)):
                delivery()
        assert delivery() == Answer()
    # What was taken before the failure is not sent again.
    assert loki.lines == ["1234567", "2234567", "2234567", "2234567"]


def test_a_person_is_told_what_to_do(loki: Scripted) -> None:
    with sink_of(Output(loki.url)) as sink:
        for status, advice in ((401, "basic_auth"), (403, "may not push"), (404, "client's url")):
            loki.replies = [Reply(status)]
            with pytest.raises(Unreachable, match=advice):
                push(sink, ["a"])()


def test_retry_after_is_respected(loki: Scripted) -> None:
    with sink_of(Output(loki.url)) as sink:
        stamp = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
        for text, least, most in (("7", 7.0, 7.0), (stamp, 90.0, 100.0), ("99999", 300.0, 300.0)):
            loki.replies = [Reply(429, {"Retry-After": text})]
            with pytest.raises(Unreachable) as caught:
                push(sink, ["a"])()
            assert caught.value.retry_after is not None
            assert least <= caught.value.retry_after <= most
        loki.replies = [Reply(429, {"Retry-After": "soon"})]
        with pytest.raises(Unreachable) as caught:
            push(sink, ["a"])()
        assert caught.value.retry_after is None


def test_rate_limited_batches_are_dropped_only_when_asked_for(loki: Scripted) -> None:
    meters = Meters()
    with sink_of(Output(loki.url, drop_rate_limited=True), meters) as sink:
        loki.replies = [Reply(429, body=b"limit reached")]
        assert push(sink, ["a", "b"])() == Answer(refused="2 entries: 429 limit reached")
    given = {"host": f"127.0.0.1:{loki.port}", "tenant": "", "reason": "rate_limited"}
    assert counted(meters, "promtail_dropped_entries_total", **given) == 2


def test_given_up_only_when_max_retries_says_so(loki: Scripted) -> None:
    meters = Meters()
    with sink_of(Output(loki.url, max_retries=3, tenant="t"), meters) as sink:
        loki.replies = [Reply(500)] * 3
        delivery = push(sink, ["a"])
        for _ in range(2):
            with pytest.raises(Unreachable):
                delivery()
        refused = delivery().refused
        assert refused is not None
        assert "given up after 3 times (max_retries)" in refused
        assert push(sink, ["b"])() == Answer()
    given = {"host": f"127.0.0.1:{loki.port}", "tenant": "t"}
    assert counted(meters, "promtail_dropped_entries_total", reason="ingester_error", **given) == 1
    assert counted(meters, "promtail_batch_retries_total", **given) == 3
    with sink_of(Output(loki.url), meters) as sink:
        loki.replies = [Reply(500)] * 20
        delivery = push(sink, ["a"])
        for _ in range(20):
            with pytest.raises(Unreachable):
                delivery()
        assert delivery() == Answer()


def test_a_loki_gets_each_tenants_entries_by_its_name(loki: Scripted) -> None:
    with sink_of(Output(loki.url, tenant="own")) as sink:
        push(sink, list("abcdef"), [None, "x", "y", None, "x", "own"])()
    found = {asked.headers["x-scope-orgid"]: asked.lines for asked in loki.asked}
    assert found == {"own": ["a", "d", "f"], "x": ["b", "e"], "y": ["c"]}


def test_a_batch_without_entries_needs_no_push(loki: Scripted) -> None:
    with sink_of(Output(loki.url)) as sink:
        assert push(sink, [])() == Answer()
    assert loki.asked == []


def test_a_redirect_is_followed_unless_it_must_not(loki: Scripted) -> None:
    moved = Reply(307, {"Location": f"{loki.base}/elsewhere{loki.path}"})
    loki.replies = [moved]
    with sink_of(Output(loki.url)) as sink:
        assert push(sink, ["a"])() == Answer()
    assert [asked.path for asked in loki.asked] == [loki.path, f"/elsewhere{loki.path}"]
    loki.replies = [moved]
    with sink_of(Output(loki.url, access=Access(follow_redirects=False))) as sink, pytest.raises(Unreachable):
        push(sink, ["a"])()


# -- who may push, and through what


def authorization(loki: Scripted) -> str | None:
    return loki.asked[-1].headers.get("authorization")


def test_credentials(loki: Scripted, tmp_path: Path) -> None:
    given = [
        (Access(Secret("me"), Secret("secret")), "Basic bWU6c2VjcmV0"),
        (Access(secret=Secret("t")), "Bearer t"),
        (Access(secret=Secret("t"), scheme="Token"), "Token t"),
        (Access(), None),
    ]
    for access, expected in given:
        with sink_of(Output(loki.url, access=access, headers={"X-A": "b"})) as sink:
            push(sink, ["a"])()
        assert authorization(loki) == expected
        assert loki.asked[-1].headers["x-a"] == "b"
    file = tmp_path / "token"
    file.write_text("one\n")
    with sink_of(Output(loki.url, access=Access(secret=Secret(file=file)))) as sink:
        for token in ("one", "another"):
            file.write_text(f"{token}\n")
            push(sink, ["a"])()
            assert authorization(loki) == f"Bearer {token}"


def test_oauth2_tokens_are_fetched_and_renewed(loki: Scripted) -> None:
    identity = Scripted("/token")
    try:
        life = 3600.0

        def grant(asked: Asked) -> Reply:
            # This one takes the secret from the form alone.
            if asked.form.get("client_secret") != "secret":
                return Reply(401, body=b"no")
            number = sum(1 for one in identity.asked if "client_secret" in one.form)
            return Reply(200, body=f'{{"access_token": "t{number}", "expires_in": {life}}}'.encode())

        identity.otherwise = grant
        oauth = OAuth2("me", Secret("secret"), identity.url, ("a", "b"), {"audience": "logs"})
        output = Output(loki.url, access=Access(oauth2=oauth))
        with sink_of(output) as sink:
            push(sink, ["a"])()
            push(sink, ["b"])()
            assert authorization(loki) == "Bearer t1"
            # One that is no longer taken is fetched anew, and the push goes on.
            loki.replies = [Reply(401)]
            assert push(sink, ["c"])() == Answer()
            assert authorization(loki) == "Bearer t2"
        assert identity.asked[1].form == {
            "grant_type": "client_credentials", "scope": "a b", "audience": "logs", "client_id": "me",
            "client_secret": "secret",
        }  # fmt: skip
        life = 0.05
        with sink_of(output) as sink:
            push(sink, ["a"])()
            before = authorization(loki)
            time.sleep(0.06)
            push(sink, ["b"])()
            assert authorization(loki) != before
        identity.otherwise = lambda _: Reply(200, body=b"{}")
        with pytest.raises(Unreachable, match="gave no token"):
            connect(output)
        identity.otherwise = lambda _: Reply(400, body=b"unauthorized_client")
        with pytest.raises(Unreachable, match="unauthorized_client"):
            connect(output)
    finally:
        identity.close()


def tls_server(name: str, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem", CERTIFICATES / f"{name}.key")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTIFICATES / "ca.pem")
    return context


CA = CERTIFICATES / "ca.pem"
SHOWN = {"certificate": CERTIFICATES / "client.pem", "key": CERTIFICATES / "client.key"}


@pytest.mark.parametrize(
    ("server", "client", "tls", "works"),
    [
        ("server", False, Tls(CA), True),
        ("server", False, Tls(authority=CA.read_text(), min_version="TLS13"), True),
        ("server", False, Tls(), False),
        ("stranger", False, Tls(CA), False),
        ("stranger", False, Tls(insecure=True), True),
        ("elsewhere", False, Tls(CA), False),
        ("elsewhere", False, Tls(CA, server_name="logs.example"), True),
        ("server", True, Tls(CA), False),
        ("server", True, Tls(CA, None, **SHOWN), True),
    ],
)
def test_tls(server: str, client: bool, tls: Tls, works: bool) -> None:
    loki = Scripted(tls=tls_server(server, client))
    try:
        output = Output(loki.url, access=Access(tls=tls))
        if works:
            with sink_of(output) as sink:
                assert push(sink, ["a"])() == Answer()
        else:
            with pytest.raises(Unreachable):
                connect(output)
    finally:
        loki.close()


def test_files_that_are_bad_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with pytest.raises(InputError, match="nowhere"):
        client(Output("https://h/", access=Access(tls=Tls(tmp_path / "nowhere"))))
    with pytest.raises(InputError, match="no pair"):
        client(Output("https://h/", access=Access(tls=Tls(certificate=bad, key=bad))))
    with pytest.raises(InputError, match="no certificate"):
        client(Output("https://h/", access=Access(tls=Tls(authority="-----BEGIN CERTIFICATE-----\nx"))))
    with pytest.raises(InputError):
        client(Output("https://h/", access=Access(tls=Tls(ca=bad))))


def test_a_proxy_is_asked_instead(loki: Scripted) -> None:
    # A proxy of plain HTTP gets the whole address as the path.
    access = Access(proxy=Proxy(f"http://u:p@127.0.0.1:{loki.port}"))
    with sink_of(Output("http://far.example/loki/api/v1/push", access=access)) as sink:
        push(sink, ["a"])()
    assert loki.asked[0].path == "http://far.example/loki/api/v1/push"
    assert loki.asked[0].headers["proxy-authorization"] == "Basic dTpw"


# -- Atalaia's store: each source's bytes once, whatever happens in between


class Broken(Exception):
    """The process ends here."""


def stored(served: Served, tenant: str) -> list[str]:
    with httpx.Client(base_url=served.url, trust_env=False, headers={"X-Scope-OrgID": tenant}) as http:
        given = {"query": '{job="j"}', "start": NOW, "end": NOW + 10**9, "limit": 1000, "direction": "forward"}
        answer = http.get("/loki/api/v1/query_range", params={key: str(value) for key, value in given.items()})
    return [value[1] for stream in answer.json()["data"]["result"] for value in stream["values"]]


@pytest.fixture
def names(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names of tenants and sources that no other test has."""
    unique = f"{time.time_ns()}"
    return lambda name: f"{name}-{unique}"


def output_of(served: Served, tenant: str) -> Output:
    return Output(f"{served.url}/loki/api/v1/push", tenant)


def test_the_store_is_told_from_a_loki(served: Served) -> None:
    with sink_of(output_of(served, "t")) as sink:
        assert isinstance(sink, AtalaiaSink)
        assert not sink.plans


def test_a_batch_whose_entries_were_all_dropped_moves_the_source(served: Served, names: Callable[[str], str]) -> None:
    own, source = names("own"), names("s")
    with sink_of(output_of(served, own)) as sink:
        delivery = sink.prepare(table_of([]), [Source(source, 0, 70)], Rows((origin_of(0),)))
        assert delivery() == Answer()
        assert sink.positions([source]) == {source: 70}


@pytest.mark.parametrize("dies", range(4))
def test_several_tenants_of_one_chunk_are_stored_once(served: Served, names: Callable[[str], str], dies: int) -> None:
    """Killed before the n-th push of a batch, and read again from where the store stands, in other chunks."""
    own, x, y, source = (names(name) for name in ("own", "x", "y", "s"))
    lines, tenants = list("abcdefgh"), [None, x, y, x, None, y, None, x]
    with sink_of(output_of(served, own)) as sink:
        assert isinstance(sink, AtalaiaSink)
        post, pushes = sink._http.post, 0

        def dying(url: str, **given: object) -> httpx.Response:
            nonlocal pushes
            if url.endswith("push"):
                pushes += 1
                if pushes > dies:
                    raise Broken
            return post(url, **given)  # type: ignore[arg-type]

        sink._http.post = dying  # type: ignore[method-assign]
        with contextlib.suppress(Broken):
            assert push(sink, lines, tenants, source)() == Answer()
    for end in (3, 6, 8):
        with sink_of(output_of(served, own)) as sink:
            start = sink.positions([source]).get(source, 0)
            if start < 10 * end:
                first = start // 10
                assert push(sink, lines[first:end], tenants[first:end], source, start)() == Answer()
    assert stored(served, own) == ["a", "e", "g"]
    assert stored(served, x) == ["b", "d", "h"]
    assert stored(served, y) == ["c", "f"]


def test_a_batch_that_is_too_large_is_several(
    served: Served, names: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, source = names("own"), names("s")
    lines = [f"{number:04}" * 20 for number in range(200)]
    # Each entry is made of two lines, and they overlap by pairs: no border is between the rows of a pair.
    first = np.repeat(np.arange(100) * 4, 2) + np.tile([0, 1], 100)
    origin = Origin(first, first + 2, lambda line: 10 * line)
    monkeypatch.setattr(atalaia_module, "_LARGEST", 4000)
    with sink_of(output_of(served, own)) as sink:
        assert isinstance(sink, AtalaiaSink)
        sent: list[int] = []
        post = sink._http.post
        sink._http.post = lambda url, **given: (sent.append(1), post(url, **given))[1]  # type: ignore[method-assign, func-returns-value]
        tenants = pa.array([None if number % 3 else names("x") for number in range(200)], pa.utf8())
        answer = sink.prepare(table_of(lines), [Source(source, 0, 4000)], Rows((origin,), tenants))()
        assert answer == Answer()
        assert len(sent) > 10
        assert sink.positions([source]) == {source: 4000}
    assert stored(served, own) == [line for number, line in enumerate(lines) if number % 3]
    assert stored(served, names("x")) == lines[::3]


def test_a_conflict_tells_where_the_store_stands(served: Served, names: Callable[[str], str]) -> None:
    own, source = names("own"), names("s")
    with sink_of(output_of(served, own)) as sink:
        push(sink, ["a", "b"], source=source)()
        assert push(sink, ["b", "c"], source=source, start=10)() == Answer(conflict={source: 20})
    assert stored(served, own) == ["a", "b"]


def test_a_store_that_refuses_is_asked_again(served: Served) -> None:
    with sink_of(output_of(served, "bad tenant/name")) as sink, pytest.raises(Unreachable, match="400"):
        push(sink, ["a"])()


def test_another_kind_of_server_is_noticed(served: Served, loki: Scripted, names: Callable[[str], str]) -> None:
    ours = output_of(served, names("own"))
    with sink_of(ours) as sink:
        assert isinstance(sink, AtalaiaSink)
        sink._output = Output(loki.url)  # as if it stood at the same address
        loki.otherwise = lambda asked: Reply(400 if "arrow" in asked.headers["content-type"] else 204)
        assert push(sink, ["a"])() == Answer(changed=True)
    with sink_of(Output(loki.url)) as sink:
        assert isinstance(sink, LokiSink)
        loki.replies = [Reply(503)]
        delivery = push(sink, ["a"])
        with pytest.raises(Unreachable):
            delivery()
        sink.output = replace(ours)
        assert delivery() == Answer(changed=True)
