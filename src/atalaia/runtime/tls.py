"""The server's side of TLS: a context made from PEM files, made again when they are renewed."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.renewed import Renewed

log = logging.getLogger("atalaia.api")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """`client_ca`: who must have signed the certificates that clients show; None asks for none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 at least. Raises InputError."""
    for path in (files.certificate, files.key, files.client_ca):
        if path is not None:
            try:
                path.read_bytes()
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}", "give the path of a PEM file") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a passphrase would otherwise be asked for at the terminal.
        context.load_cert_chain(files.certificate, files.key, password=_refused)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, InputError) as error:
        what = f"{files.certificate} and {files.key} cannot be used: {error}"
        raise InputError(what, "give a certificate with its chain, and its key without a passphrase, as PEM") from error
    return context


def _refused() -> str:
    raise InputError("the key has a passphrase")


def renewed_context(files: TlsFiles) -> Renewed[ssl.SSLContext]:
    """The context by the files as they are; connections that stand keep theirs. Raises InputError."""

    def tell(error: AtalaiaError | OSError | None) -> None:
        if error is None:
            log.info("event=certificate_read file=%s", files.certificate)
        else:
            # As while they are renewed, one file after the other.
            log.warning("event=certificate_unusable file=%s reason=%r kept=before", files.certificate, str(error))

    return Renewed((files.certificate, files.key, files.client_ca), lambda: server_context(files), tell)


def renewing_context(files: TlsFiles) -> ssl.SSLContext:
    """One context whose connections get the certificate as it is when they begin. Raises InputError."""
    renewed = renewed_context(files)
    first = renewed.get()

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = renewed.get()

    first.sni_callback = choose
    return first
