"""The house as it is drawn: arrows between folders point one way, modules stay small, folders say what they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "atalaia"
# A folder may import from folders of a later row.
ROWS = (
    ("cli",),
    ("runbook",),
    ("supervisor", "diagnosis", "backup"),
    ("api", "collector", "client", "postgres"),
    ("rules",),
    ("query",),
    ("wire",),
    ("logql", "store"),
    ("runtime",),
    ("environment",),
)
LEVEL = {folder: row for row, folders in enumerate(ROWS) for folder in folders}
MODULES = sorted(SOURCE.glob("*/**/*.py"))


def imported_folders(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("atalaia.") and name.split(".")[1] in LEVEL}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0]
    wrong = {f for f in imported_folders(path) if f != own and LEVEL[f] <= LEVEL[own]}
    assert not wrong, f"{own} may not import from {', '.join(sorted(wrong))}"


def test_every_folder_is_drawn() -> None:
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*/__init__.py")), ids=lambda p: p.parent.name)
def test_a_folder_says_what_lives_there(path: Path) -> None:
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree)
    assert text
    assert len([line for line in text.splitlines() if line]) >= 2
    assert len(tree.body) == 1, "a folder's __init__ holds its description and nothing else"


def test_no_machine_is_named() -> None:
    wrong = []
    for path in [*SOURCE.rglob("*"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "requirements.lock"]:
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(errors="replace")
            wrong += [
                f"{path.name}: {m[0]}" for m in re.finditer(r"/(?:root|work|home)/[a-z]\w+|pypi\.org|--index-url", text)
            ]
    assert not wrong


def test_both_readmes_have_the_same_commands() -> None:
    def blocks(name: str) -> list[str]:
        text = (ROOT / name).read_text()
        found = re.findall(r"```sh[^\n]*\n(.*?)```", text, re.S)
        plain = [block.replace(" --language pt-BR", "").replace(" --language en", "") for block in found]
        return sorted("\n".join(sorted(block.split("\n"))) if "runbook" in block else block for block in plain)

    assert blocks("README.md") == blocks("README.pt-BR.md")
