"""The clients of a promtail.yaml: what each key means, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from atalaia.collector.outputs.access import OAuth2, Proxy, Secret, Tls
from atalaia.collector.outputs.client import proxy_of
from atalaia.collector.plan import Output
from atalaia.collector.promtail.clients import outputs_of
from atalaia.environment.yamlfile import Reader

URL = "http://h:3100/loki/api/v1/push"


def read(text: str) -> tuple[tuple[Output, ...], list[tuple[int, str]]]:
    """The outputs, and what is wrong with them: (line, message), in order."""
    reader = Reader(Path("promtail.yaml"))
    root = reader.mapping(reader.load(dedent(text)), "promtail.yaml")
    outputs = outputs_of(reader, root, reader.path)
    assert all(problem.remedy for problem in reader.problems)
    return outputs, sorted((problem.line, problem.message) for problem in reader.problems)


def one(body: str) -> Output:
    """The only client, which has these keys besides its url; it must be good."""
    lines = "\n".join(f"  {line}" for line in dedent(body).strip().splitlines())
    (output,), problems = read(f"clients:\n- url: {URL}\n{lines}\n")
    assert problems == []
    return output


def wrong(body: str) -> list[tuple[int, str]]:
    """What is wrong with these keys; their first line is line 3."""
    lines = "\n".join(f"  {line}" for line in dedent(body).strip().splitlines())
    return read(f"clients:\n- url: {URL}\n{lines}\n")[1]


def test_defaults_ask_until_it_is_taken() -> None:
    output = one("")
    assert (output.batch_wait, output.batch_size, output.timeout) == (1.0, 1 << 20, 10.0)
    assert (output.min_backoff, output.max_backoff, output.max_retries) == (0.5, 5.0, None)
    assert (output.format, output.drop_rate_limited, output.access.follow_redirects) == ("protobuf", False, True)


def test_everything_about_sending() -> None:
    output = one(
        """
        name: main
        tenant_id: team
        batchwait: 5s
        batchsize: 102400
        backoff_config: {min_period: 100ms, max_period: 5m, max_retries: 3}
        timeout: 1500ms
        drop_rate_limited_batches: true
        format: json
        headers: {X-A: b, X-N: 5}
        external_labels: {a: b}
        follow_redirects: false
        enable_http2: true
        """
    )
    assert (output.name, output.tenant, output.batch_wait, output.batch_size) == ("main", "team", 5.0, 102400)
    assert (output.min_backoff, output.max_backoff, output.max_retries, output.timeout) == (0.1, 300.0, 3, 1.5)
    assert (output.drop_rate_limited, output.format) == (True, "json")
    assert (dict(output.headers), dict(output.external_labels)) == ({"X-A": "b", "X-N": "5"}, {"a": "b"})
    assert not output.access.follow_redirects


def test_no_retries_are_for_ever_as_in_promtail() -> None:
    assert one("backoff_config: {max_retries: 0}").max_retries is None
    assert one("backoff_config: {min_period: 10s}").max_backoff == 10.0


def test_an_address_with_user_and_password(tmp_path: Path) -> None:
    (output,), problems = read("client: {url: 'https://me:p%40ss@h:1/loki/api/v1/push'}")
    assert problems == []
    assert output.url == "https://h:1/loki/api/v1/push"
    assert (output.access.user, output.access.secret) == (Secret("me"), Secret("p@ss"))
    assert "p@ss" not in repr(output)
    (output,), _ = read("client: {url: 'https://me:x@h/push', bearer_token: t}")
    assert (output.access.user, output.access.secret) == (None, Secret("t"))


def test_ways_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    access = one(f"basic_auth: {{username: u, password_file: {secret}}}").access
    assert access.user == Secret("u")
    assert access.secret is not None
    assert access.secret.read() == "hidden"
    secret.write_text("changed")
    assert access.secret.read() == "changed"
    assert one(f"bearer_token_file: {secret}").access.secret == Secret(file=secret)
    access = one("authorization: {type: Token, credentials: abc}").access
    assert (access.scheme, access.secret) == ("Token", Secret("abc"))
    oauth = one(
        f"""
        oauth2:
          client_id: me
          client_secret_file: {secret}
          token_url: https://id/token
          scopes: [a, b]
          endpoint_params: {{audience: logs}}
          tls_config: {{insecure_skip_verify: true}}
        """
    ).access.oauth2
    assert oauth == OAuth2(
        "me", Secret(file=secret), "https://id/token", ("a", "b"), {"audience": "logs"}, Tls(insecure=True)
    )


def test_what_is_trusted_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_text("PEM")
    files = f"ca_file: {tmp_path}/ca, cert_file: {tmp_path}/certificate, key_file: {tmp_path}/key"
    tls = one(f"tls_config: {{{files}, server_name: other, min_version: TLS13}}").access.tls
    assert tls == Tls(tmp_path / "ca", None, tmp_path / "certificate", tmp_path / "key", "other", False, "TLS13")
    assert not caplog.records
    assert one("tls_config: {insecure_skip_verify: true}").access.tls.insecure
    assert "event=unverified_server file=promtail.yaml line=3" in caplog.records[0].getMessage()


def test_proxies() -> None:
    proxy = one("proxy_url: http://p:1\nproxy_connect_header: {X-A: [b, c]}").access.proxy
    assert proxy == Proxy("http://p:1", headers={"X-A": "b, c"})
    assert proxy_of(URL, proxy, {}) == "http://p:1"
    assert proxy_of(URL, Proxy("http://p:1", without="x,h"), {}) is None
    assert one("proxy_from_environment: true").access.proxy.from_environment
    named = Proxy(from_environment=True)
    given = {"HTTPS_PROXY": "http://s:1", "http_proxy": "http://p:1", "NO_PROXY": ".inside,10.0.0.0/8"}
    assert proxy_of("http://a.example/", named, given) == "http://p:1"
    assert proxy_of("https://a.example/", named, given) == "http://s:1"
    for address in ("http://x.inside/", "https://10.1.2.3/", "http://localhost:1/", "http://127.0.0.1:1/"):
        assert proxy_of(address, named, given) is None
    assert proxy_of("https://a.example/", Proxy(), given) is None


def test_several_clients_in_their_order() -> None:
    outputs, problems = read(
        f"""
        clients:
        - {{url: "{URL}", name: one}}
        - {{url: "{URL}", name: two}}
        - {{url: "{URL}"}}
        client: {{url: "{URL}", tenant_id: x}}
        """
    )
    assert problems == []
    assert [output.name for output in outputs] == ["one", "two", "", ""]
    assert [output.tenant for output in outputs] == [None, None, None, "x"]
    _, problems = read(f"clients:\n- {{url: '{URL}', name: a}}\n- {{url: '{URL}/', name: a}}\n")
    assert problems == [(3, "two clients are named 'a'")]
    _, problems = read(f"clients:\n- url: {URL}\n- url: {URL}\n")
    assert problems == [(3, f"two clients push to {URL}")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x: 1", [(3, "clients: 'x' is not known")]),
        ("timeout: soon", [(3, "timeout: 'soon' is not a duration")]),
        ("timeout: 0", [(3, "timeout: '0' is too short")]),
        ("batchsize: 10", [(3, "batchsize is 10 bytes")]),
        ("batchwait: -1s", [(3, "batchwait: '-1s' is too short")]),
        ("name: a/b", [(3, "clients.name is 'a/b'")]),
        ("format: xml", [(3, "format is 'xml'")]),
        ("headers: {X Y: b}", [(3, "headers: 'X Y' cannot be sent")]),
        ('headers: {X: "a\\nb"}', [(3, "headers: 'X' cannot be sent")]),
        ("backoff_config: {max_retries: many}", [(3, "max_retries: 'many' is not a number of times")]),
        ("backoff_config: {min_period: 1m, max_period: 1s}", [(3, "max_period is less than min_period")]),
        ("external_labels:\n  a-b: x", [(4, "external_labels: 'a-b' is not a label name")]),
        ("bearer_token_file: /nowhere/at/all", [(3, "/nowhere/at/all cannot be read")]),
        ("bearer_token: a\nbasic_auth: {username: u}", [(3, "basic_auth and bearer_token exclude each other")]),
        ("basic_auth: {user: u}", [(3, "basic_auth: 'user' is not known")]),
        ("authorization: {type: Basic, credentials: x}", [(3, "authorization.type is basic")]),
        ("oauth2: {}", [(3, "oauth2 has no client_id"), (3, "oauth2 has no token_url")]),
        ("oauth2: {client_id: a, token_url: id}", [(3, "oauth2.token_url is 'id'")]),
        ("proxy_url: socks5://a", [(3, "proxy_url is no http:// or https:// address")]),
        ("proxy_url: http://a\nproxy_from_environment: true", [(3, "proxy_url and proxy_from_environment exclude")]),
        ("drop_rate_limited_batches: 1", [(3, "drop_rate_limited_batches is 1, neither")]),
        ("tls_config:\n  x: 1", [(4, "tls_config: 'x' is not known")]),
        (
            "tls_config:\n  ca_file: /nowhere\n  key_file: /x\n  cert: PEM\n  min_version: 1.2\n  max_version: TLS12",
            [
                (4, "ca_file /nowhere: there is no such file"),
                (5, "cert_file and key_file go together"),
                (5, "key_file /x: there is no such file"),
                (6, "tls_config.cert as text is not built"),
                (7, "min_version is '1.2'"),
                (8, "tls_config.max_version is not built"),
            ],
        ),
    ],
)
def test_each_refusal_names_its_line(body: str, expected: list[tuple[int, str]]) -> None:
    found = wrong(body)
    assert len(found) == len(expected), found
    for (line, message), (wanted_line, wanted) in zip(found, expected, strict=True):
        assert (line, message[: len(wanted)]) == (wanted_line, wanted)


@pytest.mark.parametrize("url", ["", "ftp://a", "a", "http://", "http://h:x/", "http://a:secret@h:x/"])
def test_what_is_no_address(url: str) -> None:
    outputs, problems = read(f"clients:\n- name: x\n  url: '{url}'\n")
    assert outputs == ()
    assert [line for line, _ in problems] == [3]
    assert "clients.url is" in problems[0][1]
    assert "secret" not in problems[0][1]


def test_no_clients() -> None:
    assert read("a: 1")[1] == [(0, "promtail.yaml has no clients")]
