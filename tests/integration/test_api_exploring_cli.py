"""`atalaia patterns` and `atalaia fields` against a running store."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from tests.integration.api_support import S, Served, Tenant, served, tenant

from atalaia.cli import main

__all__ = ["served", "tenant"]
DAY = 86_400 * S


class Command:
    """The command line, in this process: exit code, output, errors."""

    def __init__(self, served: Served, tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
        self._options = ["--url", served.url, "--tenant", tenant.name]
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["atalaia", *arguments, *self._options])
            code = main._run()
        return (code, *self._capsys.readouterr())


@pytest.fixture
def command(
    served: Served,
    tenant: Tenant,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    (tmp_path / "atalaia.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    now = time.time_ns()
    tenant.push(
        {"job": "app"},
        [(now - 3 * DAY + n, f"user u{n} logged in [error]") for n in range(1200)]
        + [(now - S - n, f"user v{n} logged in [error]") for n in range(3)]
        + [(now - S, "disk 97% full\n\x1b[31mhelp")],
    )
    tenant.push({"job": "web"}, [(now - S, '{"path": "/a", "ms": 1}', {"trace": "t1"})])
    return Command(served, tenant, capsys)


def test_patterns(command: Command) -> None:
    code, out, err = command("patterns", '{job="app"}', "--since", "7d")
    assert (code, err) == (0, "")
    head, first, second = out.splitlines()
    assert head.split() == ["LINES", "SHARE", "FIRST", "LAST", "PATTERN"]
    assert first.split()[:2] == ["1,203", "99.9%"]
    assert first.endswith("  user <_> logged in [error]")
    assert second.endswith("  disk <_>% full\\n\\x1b[<_>")
    code, out, err = command("patterns", '{job="app"} |= "user"', "--json")
    assert [(one["pattern"], sum(n for _, n in one["samples"])) for one in json.loads(out)] == [
        ("user <_> logged in [error]", 3)
    ]
    code, out, err = command("patterns", '{job="app"}', "--limit", "1")
    assert len(out.splitlines()) == 2
    assert err == "1 more patterns: --limit 0 shows all\n"


def test_new_patterns(command: Command) -> None:
    code, out, err = command("patterns", '{job="app"}', "--new-since", "1d")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    assert "disk <_>% full" in out
    assert command("patterns", '{job="app"} |= "user"', "--new-since", "1d") == (0, "", "nothing new\n")
    code, _, err = command("patterns", '{job="app"}', "--new-since", "1d", "--since", "1h")
    assert code == 2
    assert "must reach further back" in err
    code, _, err = command("patterns", '{job="app"}', "--new-since", "soon")
    assert code == 2
    assert "--new-since" in err
    code, _, err = command("patterns", '{job="app"} | json')
    assert code == 2
    assert "line filters alone" in err


def test_fields(command: Command) -> None:
    code, out, err = command("fields", '{job="web"}')
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["FIELD", "TYPE", "VALUES", "PARSER"],
        ["ms", "int", "1", "json"],
        ["path", "string", "1", "json"],
        ["trace", "string", "1", "-"],
    ]
    assert command("fields", '{job="web"}', "--values", "path") == (0, "/a\n", "")
    code, out, _ = command("fields", '{job="web"}', "--json")
    assert {one["label"] for one in json.loads(out)} == {"ms", "path", "trace"}
    code, _, err = command("fields", '{job="web"}', "--values", "a/b")
    assert (code, err) == (0, "no values of 'a/b' in these lines\n")
