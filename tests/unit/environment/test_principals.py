"""Who may ask: their file, and the hashes in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atalaia.environment import hashing, principals
from atalaia.environment.errors import InputError
from atalaia.environment.principals import SCOPES, Principal, Principals

TOKEN = hashing.new_token()
ANN = Principal("ann", ("a", "b"), ("push", "read"), "token", hashing.of_token(TOKEN), "2026-01-01T00:00:00+00:00")


def test_tokens_have_256_bits_and_rest_as_hashes() -> None:
    assert len({hashing.new_token() for _ in range(100)}) == 100
    assert len(TOKEN) >= len("atalaia_") + 43
    assert TOKEN not in ANN.secret
    assert Principals((ANN,)).of_token(TOKEN) == ANN
    assert Principals((ANN,)).of_token(TOKEN + "x") is None
    assert Principals((ANN,)).of_token("") is None


def test_a_password_rests_salted() -> None:
    one, two = hashing.of_password("pässword"), hashing.of_password("pässword")
    assert one != two
    assert hashing.known(one)
    assert hashing.is_password("pässword", one)
    assert not hashing.is_password("password", one)
    # A password's principal is no token's, whatever hash it has.
    assert Principals((Principal("bob", None, SCOPES, "password", hashing.of_token(TOKEN)),)).of_token(TOKEN) is None


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "plain",
        "sha256:zz",
        "scrypt:3:8:1:" + "0" * 32 + ":" + "0" * 64,
        "scrypt:99999999:999:999:" + "0" * 32 + ":" + "0" * 64,
    ],
)
def test_hashes_that_cannot_be_compared_with(stored: str) -> None:
    assert not hashing.known(stored)


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "access.json"
    every = Principal("bob", None, ("admin",), "password", hashing.of_password("password"))
    Principals().adding(ANN).adding(every).save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert principals.read(path) == Principals((ANN, every))
    assert TOKEN not in path.read_text()
    principals.read(path).without("ann").save(path)
    assert principals.read(path) == Principals((every,))


@pytest.mark.parametrize("name", ["", "atalaia", "a b", "a:b", "ann", "é", "x" * 101])
def test_names_that_cannot_be_added(name: str) -> None:
    with pytest.raises(InputError):
        Principals((ANN,)).adding(Principal(name, None, (), "token", ""))


def test_nobody_is_taken_away_twice() -> None:
    with pytest.raises(InputError, match="there is no 'eve'"):
        Principals((ANN,)).without("eve")


ROW = {"name": "a", "tenants": None, "scopes": ["read"], "kind": "token", "secret": hashing.of_token("t")}


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        '{"version": 2, "principals": []}',
        '{"version": 1}',
        *(
            json.dumps({"version": 1, "principals": [{**ROW, **wrong}]})
            for wrong in (
                {"tenants": "a"},
                {"tenants": [1]},
                {"scopes": ["everything"]},
                {"scopes": "read"},
                {"kind": "none"},
                {"secret": "x"},
            )
        ),
        json.dumps({"version": 1, "principals": [{"name": "a"}]}),
    ],
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, data: str) -> None:
    path = tmp_path / "access.json"
    path.write_text(data)
    path.chmod(0o600)
    with pytest.raises(InputError, match="cannot be read"):
        principals.read(path)


@pytest.mark.parametrize(
    ("mode", "good"), [(0o600, True), (0o640, True), (0o644, False), (0o660, False), (0o602, False)]
)
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int, good: bool) -> None:
    path = tmp_path / "access.json"
    Principals((ANN,)).save(path)
    path.chmod(mode)
    if good:
        assert principals.read(path).all == (ANN,)
    else:
        with pytest.raises(InputError, match="chmod 600"):
            principals.read(path)


def test_admin_may_see_metrics_and_nothing_else_implies_anything() -> None:
    for given in SCOPES:
        somebody = Principal("x", None, (given,), "token", "")
        allowed = {scope for scope in SCOPES if somebody.may(scope)}
        assert allowed == ({"admin", "metrics"} if given == "admin" else {given})
