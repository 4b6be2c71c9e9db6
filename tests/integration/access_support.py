"""A server that asks who one is, over TLS, and some principals for it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
from api_support import Served
from typer.testing import CliRunner

from atalaia.cli.main import app
from atalaia.environment.errors import AtalaiaError

CERTIFICATES = Path(__file__).parent / "certificates"
TLS = ("--tls-cert", str(CERTIFICATES / "server.pem"), "--tls-key", str(CERTIFICATES / "server.key"))


def access(*arguments: str, code: int = 0, given: str = "") -> str:
    """`atalaia access …`, in this process: what it printed to standard output, or what it complained of."""
    done = CliRunner().invoke(app, ["access", *arguments], input=given, catch_exceptions=True)
    if code:
        assert isinstance(done.exception, AtalaiaError), done.output
        assert done.exception.exit_code == code
        return str(done.exception)
    assert done.exit_code == 0, done.exception
    return done.stdout.strip()


def trusting(name: str = "ca", **options: Any) -> httpx.Client:
    """A client that trusts what a certificate vouches for."""
    return httpx.Client(
        verify=ssl.create_default_context(cafile=str(CERTIFICATES / f"{name}.pem")),
        trust_env=False,
        timeout=30,
        **options,
    )


class Secured(Served):
    """A served store over TLS."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory, *TLS, *options)
        self.url = f"https://127.0.0.1:{self.port}"
