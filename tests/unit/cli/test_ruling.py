"""What is configured of rules, as the ruler takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.cli.ruling import check_environment, check_files, plan_of, plan_of_options
from atalaia.environment.connection import Connection
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import Environment, load

GOOD = "groups:\n- name: g\n  rules: []\n"


def environment(folder: Path, text: str) -> Environment:
    (folder / "atalaia.toml").write_text(text)
    return load(folder / "atalaia.toml")


def test_a_whole_section(tmp_path: Path) -> None:
    for name in ("password", "token", "ca.pem"):
        (tmp_path / name).write_text("x")
    plan = plan_of(
        environment(
            tmp_path,
            """
            [logs]
            rules = "rules/*.yaml"
            [logs.alerts]
            urls = ["http://a:9093/", "https://b/am"]
            user = "u"
            password_file = "password"
            ca = "ca.pem"
            remote_write = "http://p:9090/api/v1/write"
            remote_write_token_file = "token"
            external_url = "https://logs.example"
            labels = { site = "rio" }
            """,
        )
    )
    assert plan.files == (str(tmp_path / "rules/*.yaml"),)
    trust = {"user": "u", "password_file": tmp_path / "password", "ca": tmp_path / "ca.pem"}
    assert plan.alertmanagers == tuple(
        Connection(url, **trust)  # type: ignore[arg-type]
        for url in ("http://a:9093", "https://b/am")
    )
    assert plan.remote_write == Connection("http://p:9090/api/v1/write", token_file=tmp_path / "token")
    assert (plan.url, plan.labels) == ("https://logs.example", {"site": "rio"})


def test_without_anything_there_is_nothing(tmp_path: Path) -> None:
    plan = plan_of(environment(tmp_path, ""))
    assert (plan.files, plan.alertmanagers, plan.remote_write, plan.url) == ((), (), None, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[logs]\nrules = ["a", 5]', "atalaia.toml:2: logs.rules = 5: input should be a valid string"),
        ('[logs.alerts]\nurls = ["a:9093"]', "atalaia.toml:2: logs.alerts.urls = 'a:9093': 'a:9093' is not an address"),
        ('[logs.alerts]\nremote_write = "http://u:p@h"', "a user or a password in an address"),
        ('[logs.alerts]\nuser = "u"', "user and password_file go together"),
        ('[logs.alerts]\nremote_write_password_file = "u"', "remote_write_user and remote_write_password_file"),
        ('[logs.alerts]\nuser = "u"\npassword_file = "p"\ntoken_file = "t"', "give one of user and token_file"),
        (
            '[logs.alerts]\ntoken_file = "none"',
            "atalaia.toml:2: logs.alerts.token_file = 'none': there is no such file",
        ),
        ('[logs.alerts]\nurl = "x"', "did you mean 'urls'?"),
        ('[logs.alerts]\nlabels = { "a-b" = "x" }', "'a-b' is not a label's name"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        environment(tmp_path, text)
    assert told in str(caught.value)


def test_rule_files_of_an_environment_are_checked_before_anything_starts(tmp_path: Path) -> None:
    found = environment(tmp_path, '[logs]\nrules = "*.yaml"\n')
    check_environment(found)  # files may come later
    (tmp_path / "a.yaml").write_text(GOOD)
    check_environment(found)
    (tmp_path / "b.yaml").write_text("groups: 5")
    with pytest.raises(ConfigurationError, match="nothing was started"):
        check_environment(found)
    elsewhere = environment(tmp_path, '[logs]\nurl = "http://l:3100"\nrules = "*.yaml"\n')
    with pytest.raises(ConfigurationError, match=r"atalaia.toml:3: logs.rules: .* embedded store"):
        check_environment(elsewhere)


def test_options(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    pattern = str(tmp_path / "*.yaml")
    plan = plan_of_options([pattern], ["http://a:9093"], "http://p/write")
    assert (plan.files, plan.alertmanagers, plan.remote_write) == (
        (pattern,), (Connection("http://a:9093"),), Connection("http://p/write"),
    )  # fmt: skip
    for arguments, told in (
        (([str(tmp_path / "none*.yaml")], [], None), "no rule file matches"),
        (([], ["localhost:9093"], None), "--alertmanager: 'localhost:9093' is not an address"),
        (([], [], "http://u:p@h/x"), "--remote-write: a user or a password in an address"),
    ):
        with pytest.raises(InputError, match=told):
            plan_of_options(*arguments)
    (tmp_path / "b.yaml").write_text("groups: 5")
    with pytest.raises(ConfigurationError):
        check_files([pattern])
