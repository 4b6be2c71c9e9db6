from __future__ import annotations

import pytest

from atalaia.postgres.connect import said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            'connection failed: connection to server at "127.0.0.1", port 5432 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?",
            'connection failed: connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        ),
        (
            'relation "t" does not exist\nLINE 1: SELECT\n   ^',
            'relation "t" does not exist',
        ),
        (
            "Multiple connection attempts failed. All failures were:\n- host a: no\n- host b: FATAL:  x",
            "- host b: FATAL:  x",
        ),
        ("", "OSError"),
    ],
)
def test_a_server_is_quoted_in_one_line(error: str, words: str) -> None:
    assert said(OSError(error)) == words
