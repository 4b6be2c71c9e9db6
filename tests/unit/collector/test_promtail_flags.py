from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from atalaia.collector.promtail.flags import translated
from atalaia.collector.promtail.given import Given, label_pairs, put_over, shown
from atalaia.environment.errors import InputError
from atalaia.environment.yamlfile import Node, Reader


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-config.file=/etc/promtail/config.yml"], ["--config=/etc/promtail/config.yml"]),
        (["--config.file", "a.yaml", "-config.expand-env=true"], ["--config=a.yaml", "--expand-env"]),
        (
            ["-config.expand-env", "-dry-run", "--inspect=1", "-stdin=t"],
            ["--expand-env", "--dry-run", "--inspect", "--stdin"],
        ),
        (["-dry-run=false", "--check-syntax", "-version", "-help"], ["--check", "--version", "--help"]),
        (["--config", "a", "--check", "--set=x.y=1", "-h"], ["--config=a", "--check", "--set=x.y=1", "--help"]),
        (
            ["-client.url=http://l/push", "-client.external-labels=a=b,c=d"],
            ["--set=client.url=http://l/push", "--external-labels=a=b,c=d"],
        ),
        (
            ["-positions.file=/run/p.yaml", "-server.http-listen-port", "0"],
            ["--set=positions.filename=/run/p.yaml", "--set=server.http_listen_port=0"],
        ),
        (
            ["-log.level=debug", "-server.disable", "-max-line-size-truncate=F"],
            [
                "--set=server.log_level=debug",
                "--set=server.disable=true",
                "--set=limits_config.max_line_size_truncate=false",
            ],
        ),
        (
            ["-server.grpc-listen-port=0", "-server.profiling_enabled"],
            ["--unused", "server.grpc-listen-port", "--unused", "server.profiling_enabled"],
        ),
        (["-print-config-stderr", "-log-config-reverse-order=false"], ["--print-config"]),
        ([], []),
    ],
)
def test_promtails_flags_become_ours(given: list[str], expected: list[str]) -> None:
    assert translated(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-confg.file=x"], "the flag -confg.file is not known\n  did you mean -config.file?"),
        (["--nonsense"], "the flag --nonsense is not known\n  see"),
        (["-config.file"], "the flag -config.file needs a value"),
        (["-dry-run=maybe"], "-dry-run=maybe is neither true nor false"),
        (["promtail.yaml"], "collect takes flags only, not 'promtail.yaml'"),
        (["---check"], "collect takes flags only"),
        (["-"], "collect takes flags only"),
    ],
)
def test_other_flags_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        translated(given)
    assert str(caught.value).startswith(message)


def tree(text: str) -> Node:
    return Reader(Path("p.yaml")).load(dedent(text))


def test_settings_are_put_over_the_file() -> None:
    root = tree("server: {http_listen_port: 9080}\npositions: 5\n")
    put_over(
        root, Given(settings={"server.http_listen_port": "0", "positions.filename": "p", "server.disable": "true"})
    )
    assert root.plain() == {
        "server": {"http_listen_port": "0", "disable": True},
        "positions": {"filename": "p"},
    }


def test_a_clients_flags_count_only_beside_its_address() -> None:
    root = tree("clients: [{url: a}]")
    put_over(root, Given(settings={"client.timeout": "5s"}))
    assert root.plain() == {"clients": [{"url": "a"}]}
    put_over(root, Given(settings={"client.timeout": "5s", "client.url": "b"}))
    assert root.plain()["client"] == {"timeout": "5s", "url": "b"}
    root = tree("client: {url: a}")
    put_over(root, Given(settings={"client.timeout": "5s"}))
    assert root.plain() == {"client": {"url": "a", "timeout": "5s"}}


def test_external_labels_go_to_each_client_that_has_none_of_the_name() -> None:
    root = tree("clients: [{url: a}, {url: b, external_labels: {env: mine}}]\nclient: {url: c}")
    put_over(root, Given(external_labels=label_pairs("env=prod, zone=a=b")))
    both = {"env": "prod", "zone": "a=b"}
    assert [client["external_labels"] for client in root.plain()["clients"]] == [both, both | {"env": "mine"}]
    assert root.plain()["client"]["external_labels"] == both
    with pytest.raises(InputError, match="name=value"):
        label_pairs("env")


def test_what_is_shown_has_no_secrets() -> None:
    root = tree(
        """
        clients:
        - url: https://me:hunter2@loki/push
          basic_auth: {username: me, password: hunter2, password_file: /run/p}
          oauth2: {client_id: id, client_secret: hunter2}
          bearer_token: hunter2
          authorization: {credentials: hunter2}
        scrape_configs: [{job_name: a, n: 5, yes: true, none: }]
        """
    )
    text = shown(root)
    assert "hunter2" not in text
    for kept in ("https://me:<secret>@loki/push", "username: me", "password_file: /run/p", "n: 5", "client_id: id"):
        assert kept in text
