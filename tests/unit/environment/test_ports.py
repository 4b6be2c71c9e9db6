from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from atalaia.environment import ports
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import Environment, parse
from atalaia.environment.state import State

Assign = Callable[..., ports.Ports]


@pytest.fixture
def assign(monkeypatch: pytest.MonkeyPatch) -> Assign:
    """`assign(text, taken=…, remembered=…, running=…)` with those ports taken on every address."""

    def do(
        text: str = "", taken: object = (), remembered: Mapping[str, int] = {}, running: Mapping[str, int] = {}
    ) -> ports.Ports:
        def kept(state: State) -> dict[str, Any]:
            return {"ports": dict(remembered)}

        monkeypatch.setattr(ports, "is_free", lambda port, listen: port not in taken)  # type: ignore[operator]
        monkeypatch.setattr(State, "remembered", kept)
        file = Path("/x/atalaia.toml")
        settings, lines = parse(text, file)
        return ports.assign(Environment(file, settings, State(Path("/x/.atalaia")), lines), running)

    return do


def test_defaults_take_the_next_free_ones(assign: Assign) -> None:
    assert assign() == ports.Ports({"postgres_a": 5432, "postgres_b": 5433, "store": 3100})
    found = assign(taken={5432, 5434, 3100, 3101})
    assert found.assigned == {"postgres_a": 5433, "postgres_b": 5435, "store": 3102}
    assert found.notices == ()


def test_an_explicit_port_is_left_to_its_server(assign: Assign) -> None:
    found = assign("[servers.a]\n[servers.b]\nport = 5432\n[logs]\nurl = 'http://loki'")
    assert found.assigned == {"a": 5433, "b": 5432}


def test_explicit_ports_that_are_taken_or_given_twice_are_all_named_with_their_lines(assign: Assign) -> None:
    text = "[servers.a]\nport = 6000\n[servers.b]\nport = 6001\n[servers.c]\nport = 6001\n[logs]\nport = 6000\n"
    with pytest.raises(ConfigurationError) as caught:
        assign(text, taken={6000})
    assert [(p.line, p.message) for p in caught.value.problems] == [
        (2, "port 6000 is taken"),
        (6, "port 6001 is given to b already"),
        (8, "port 6000 is given to a already"),
    ]
    assert "sport = :6000" in caught.value.problems[0].remedy


def test_the_own_running_server_keeps_its_port(assign: Assign) -> None:
    running = {"postgres_a": 5432, "postgres_b": 5433, "store": 3100}
    taken = {5432, 5433, 3100}
    found = assign(taken=taken, remembered=running, running=running)
    assert (found.assigned, found.notices) == (running, ())
    # Also an explicit one, and one that was forgotten.
    found = assign("[servers.postgres_a]\nport = 5432\n[servers.postgres_b]\n", taken, {}, running)
    assert (found.assigned, found.notices) == (running, ())


def test_remembered_ports_are_kept(assign: Assign) -> None:
    remembered = {"postgres_a": 5440, "postgres_b": 5432, "store": 3105}
    assert assign(remembered=remembered).assigned == remembered


def test_a_remembered_port_that_is_taken_moves_with_a_notice(assign: Assign) -> None:
    found = assign(taken={5432}, remembered={"postgres_a": 5432, "postgres_b": 5433, "store": 3100})
    # postgres_b's remembered port is not given away.
    assert found.assigned == {"postgres_a": 5434, "postgres_b": 5433, "store": 3100}
    (notice,) = found.notices
    assert "postgres_a: port 5432 is taken" in notice
    assert "5434" in notice


def test_a_remembered_port_given_to_another_by_the_file_moves(assign: Assign) -> None:
    found = assign("[servers.a]\n[servers.b]\nport = 5432", remembered={"a": 5432})
    assert found.assigned == {"a": 5433, "b": 5432, "store": 3100}
    assert len(found.notices) == 1


def test_no_free_port_at_all_is_said(assign: Assign) -> None:
    with pytest.raises(InputError, match="no free port from 5432 up for postgres_a"):
        assign(taken=range(65536))
