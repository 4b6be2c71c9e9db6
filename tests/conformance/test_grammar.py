"""Our grammar beside that of Grafana's editor, @grafana/lezer-logql: each difference is known, and has its reason."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse

CLIENTS = Path(__file__).parents[1] / "clients"
CORPUS = yaml.safe_load((Path(__file__).parent / "grammar.yaml").read_text(encoding="utf-8"))
ENTRIES = [(entry, valid) for valid in (True, False) for entry in CORPUS["valid" if valid else "invalid"]]
QUERIES = {(entry if isinstance(entry, str) else entry["query"]): valid for entry, valid in ENTRIES}
EXPLAINED = {entry["query"]: entry["difference"] for entry, _ in ENTRIES if isinstance(entry, dict)}


def test_the_corpus() -> None:
    assert len(QUERIES) == len(ENTRIES) >= 300
    assert all(EXPLAINED.values())


def _accepted(query: str) -> bool:
    try:
        parse(query)
    except LogQLError:
        return False
    return True


def test_our_grammar_judges_as_the_corpus_says() -> None:
    wrong = {query for query, valid in QUERIES.items() if _accepted(query) != valid}
    assert not wrong


@pytest.mark.skipif(
    shutil.which("node") is None or not (CLIENTS / "node_modules" / "@grafana" / "lezer-logql").is_dir(),
    reason="no node, or `make clients` has not run",
)
def test_lezer_judges_alike_but_for_what_is_explained() -> None:
    run = subprocess.run(
        ["node", "lezer.mjs"],
        input=json.dumps(list(QUERIES)),
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    theirs = dict(zip(QUERIES, json.loads(run.stdout), strict=True))
    different = {query for query, valid in QUERIES.items() if theirs[query] != valid}
    assert different - EXPLAINED.keys() == set(), "differences without a reason"
    assert EXPLAINED.keys() - different == set(), "reasons that are no longer needed"
