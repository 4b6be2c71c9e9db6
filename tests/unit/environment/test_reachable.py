"""Who can reach the log store: what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.environment.connection import connection_of
from atalaia.environment.errors import ConfigurationError
from atalaia.environment.load import load


def _written(folder: Path, text: str) -> Path:
    file = folder / "atalaia.toml"
    file.write_text(text)
    return file


def test_a_store_that_others_can_reach_needs_somebody_who_may(tmp_path: Path) -> None:
    file = _written(tmp_path, '[logs]\nlisten = "0.0.0.0"\n')
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert (problem.line, "atalaia access add" in problem.remedy) == (2, True)
    assert load(file, reachable=False).settings.logs.listen == "0.0.0.0"
    (tmp_path / ".atalaia" / "secrets").mkdir(parents=True)
    (tmp_path / ".atalaia" / "secrets" / "access.json").write_text("{}")
    environment = load(file)
    found = connection_of(environment, 3100)
    assert found is not None
    assert found.base == "http://127.0.0.1:3100"


def test_files_that_are_not_there_are_told_with_their_lines(tmp_path: Path) -> None:
    file = _written(tmp_path, '[logs]\nca = "ca.pem"\n[logs.tls]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert [(p.line, "there is no such file" in p.message) for p in caught.value.problems] == [
        (2, True),
        (4, True),
        (5, True),
    ]


def test_the_own_token_goes_to_the_own_store_alone(tmp_path: Path) -> None:
    own = connection_of(load(_written(tmp_path, '[logs]\nlisten = "::1"\n')), 3100)
    assert own is not None
    assert (own.base, own.token_file) == ("http://[::1]:3100", tmp_path / ".atalaia" / "secrets" / "own.token")
    other = connection_of(load(_written(tmp_path, '[logs]\nurl = "https://loki"\ntenant = "t"\ntoken = "x"\n')))
    assert other is not None
    assert (other.base, other.tenant, other.token, other.token_file) == ("https://loki", "t", "x", None)
    assert "token='x'" not in repr(other)


def test_who_may_not_read_the_own_token_asks_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = load(_written(tmp_path, ""))

    def closed(*_: object) -> None:
        raise PermissionError("another user's")

    monkeypatch.setattr(Path, "open", closed)  # root, as which tests may run, reads everything
    own = connection_of(environment, 3100)
    assert own is not None
    assert own.token_file is None
