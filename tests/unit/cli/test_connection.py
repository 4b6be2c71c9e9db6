"""Which log store a command asks, and with which credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.cli.connection import connection_of
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment
from atalaia.environment.settings import Settings
from atalaia.environment.state import State


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    state = State(tmp_path / ".atalaia")
    state.remember(ports={"store": 3100})
    return Environment(tmp_path / "atalaia.toml", Settings(), state, {})


VARIABLES = {"LOKI_ADDR": "http://loki:1", "LOKI_BEARER_TOKEN": "secret", "LOKI_ORG_ID": "team"}


def test_options_before_variables_before_the_environment(environment: Environment) -> None:
    own = connection_of(environment, variables=VARIABLES)
    assert (own.base, own.token, own.tenant) == ("http://127.0.0.1:3100", None, None)
    assert own.token_file == environment.state.own_token
    asked = connection_of(environment, variables=VARIABLES, address=True)
    assert (asked.base, asked.token, asked.tenant) == ("http://loki:1", "secret", "team")
    given = connection_of(environment, "https://other/", tenant="a|b", variables=VARIABLES, address=True)
    assert (given.base, given.token, given.tenant) == ("https://other", "secret", "a|b")


def test_a_user_in_place_of_the_token(environment: Environment, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p\n")
    found = connection_of(environment, user="ann", password_file=password, variables=VARIABLES)
    assert (found.user, found.password_file, found.token, found.token_file) == ("ann", password, None, None)
    found = connection_of(environment, "http://x", user="ann", variables={"LOKI_PASSWORD": "q"})
    assert (found.user, found.password) == ("ann", "q")


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        ({"url": "loki:3100"}, {}, "is not an address"),
        ({"url": "http://x", "ca": Path("nowhere")}, {}, "no such file"),
        ({"url": "http://x", "user": "u", "token_file": Path(__file__)}, {}, "do not go together"),
        ({"url": "http://x", "password_file": Path(__file__)}, {}, "without --user"),
        ({"url": "http://x"}, {"LOKI_TLS_SKIP_VERIFY": "true"}, "nobody vouches"),
        ({"url": "http://x"}, {"LOKI_CLIENT_CERT_PATH": __file__}, "go together"),
        ({"url": "http://x"}, {"LOKI_BEARER_TOKEN_FILE": "nowhere"}, "no such file"),
    ],
)
def test_mistakes(environment: Environment, options: dict, variables: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=message):
        connection_of(environment, variables=variables, **options)


def test_no_store_yet(tmp_path: Path) -> None:
    empty = Environment(tmp_path / "atalaia.toml", Settings(), State(tmp_path / ".atalaia"), {})
    with pytest.raises(InputError, match="never started"):
        connection_of(empty, variables={})
