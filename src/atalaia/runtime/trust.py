"""What a client trusts and shows in TLS: contexts made from PEM files."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)


def client_context(connection: Connection) -> ssl.SSLContext:
    """TLS 1.2 at least, server certificates verified as the connection says. Raises InputError for bad files."""
    if connection.pinned is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Only the first certificate of the file, not those that signed it: they vouch for others, too.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(_first_certificate(connection.pinned)))
    else:
        context = ssl.create_default_context()
        if connection.ca is not None:
            try:
                context = ssl.create_default_context(cafile=_readable(connection.ca))
            except ssl.SSLError as error:
                raise InputError(f"{connection.ca} holds no certificate: {error}", "it must be a PEM file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if connection.certificate is not None:
        try:
            context.load_cert_chain(_readable(connection.certificate), connection.key)
        except ssl.SSLError as error:
            raise InputError(f"{connection.certificate} and {connection.key} are no pair: {error}") from error
    return context


def _first_certificate(path: Path) -> str:
    found = _CERTIFICATE.search(Path(_readable(path)).read_bytes())
    if found is None:
        raise InputError(f"{path} holds no certificate", "it must be a PEM file")
    return found[0].decode("ascii", errors="replace")


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "give the path of a PEM file") from error
