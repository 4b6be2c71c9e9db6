"""The HTTP client of an output: its headers, credentials, certificates and proxy; files are read again when changed."""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
from collections.abc import Callable, Generator, Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # as the standard library decides

import httpx

from atalaia.collector.outputs.access import Access, Proxy, Tls
from atalaia.collector.outputs.oauth import Tokens
from atalaia.collector.plan import Output
from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError
from atalaia.runtime.http import open_client
from atalaia.runtime.renewed import Renewed
from atalaia.runtime.trust import client_context

_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}


def client(output: Output) -> httpx.Client:
    """An HTTP client of the output. Raises InputError for files that cannot be read."""
    timeout = httpx.Timeout(output.timeout)
    if output.trust is not None:
        made = open_client(output.trust, timeout)
    else:
        access = output.access
        auth = Authorization(access, output.timeout)
        made = httpx.Client(
            auth=auth,
            transport=Transport(output.url, access.tls, access.proxy, auth.close),
            timeout=timeout,
            trust_env=False,
            follow_redirects=access.follow_redirects,
        )
    if output.tenant:
        made.headers["X-Scope-OrgID"] = output.tenant
    made.headers.update(output.headers)
    return made


class Authorization(httpx.Auth):
    """The Authorization header; an OAuth 2 token that is no longer taken is fetched anew, once a request."""

    def __init__(self, access: Access, timeout: float) -> None:
        self._access = access
        files = [secret.file for secret in (access.user, access.secret) if secret is not None]
        self._header = Renewed(files, self._read)
        self._tokens: Tokens | None = None
        if (oauth := access.oauth2) is not None:
            transport = Transport(oauth.token_url, oauth.tls, oauth.proxy)
            self._tokens = Tokens(oauth, httpx.Client(transport=transport, timeout=timeout, trust_env=False))

    def _read(self) -> str | None:
        access = self._access
        secret = access.secret.read() if access.secret is not None else ""
        if access.user is not None:
            return f"Basic {base64.b64encode(f'{access.user.read()}:{secret}'.encode()).decode()}"
        return f"{access.scheme} {secret}" if secret else None

    def close(self) -> None:
        """Close what asks for tokens."""
        if self._tokens is not None:
            self._tokens.close()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        if self._tokens is None:
            if (header := self._header.get()) is not None:
                request.headers["Authorization"] = header
            yield request
            return
        request.headers["Authorization"] = f"Bearer {self._tokens.get()}"
        answer = yield request
        if answer.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._tokens.fresh()}"
            yield request


class Transport(httpx.BaseTransport):
    """httpx's own, made again when the certificates that are trusted or shown change."""

    def __init__(self, url: str, tls: Tls, proxy: Proxy, closed: Callable[[], None] = lambda: None) -> None:
        """`closed` is called with `close`. Raises InputError for bad files."""
        self._tls = tls
        self._closed = closed
        self._url = url
        self._proxy = proxy
        self._made: list[httpx.HTTPTransport] = []
        self._current = Renewed(tls.files, self._make)

    def _make(self) -> httpx.HTTPTransport:
        through = proxy_of(self._url, self._proxy, os.environ)
        proxy = httpx.Proxy(through, headers=dict(self._proxy.headers)) if through else None
        # Older ones stay open until the end: another thread may wait for an answer there.
        self._made.append(httpx.HTTPTransport(verify=context_of(self._tls), proxy=proxy))
        return self._made[-1]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport."""
        if self._tls.server_name is not None:
            request.extensions["sni_hostname"] = self._tls.server_name
        return self._current.get().handle_request(request)

    def close(self) -> None:
        """Close connections."""
        self._closed()
        for transport in self._made:
            transport.close()


def context_of(tls: Tls) -> ssl.SSLContext:
    """What is trusted and shown. Raises InputError for bad files."""
    context = client_context(Connection("", ca=tls.ca, certificate=tls.certificate, key=tls.key))
    if tls.authority is not None:
        try:
            context.load_verify_locations(cadata=tls.authority)
        except ssl.SSLError as error:
            raise InputError(f"tls_config.ca is no certificate: {error}", "write it as PEM") from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.min_version is not None:
        context.minimum_version = ssl.TLSVersion[_VERSIONS[tls.min_version]]
    return context


def proxy_of(url: str, proxy: Proxy, environment: Mapping[str, str]) -> str | None:
    """The proxy through which a server is asked; None for none."""
    parts = urlsplit(url)
    if proxy.url is not None:
        return None if proxy.without and _bypassed(parts.hostname or "", proxy.without) else proxy.url
    if not proxy.from_environment:
        return None
    found = {name.lower(): value for name, value in environment.items() if name.lower().endswith("_proxy")}
    if "request_method" in {name.lower() for name in environment}:
        found.pop("http_proxy", None)  # a CGI's client may set it, as a header
    return None if _bypassed(parts.hostname or "", found.get("no_proxy", "")) else found.get(f"{parts.scheme}_proxy")


def _bypassed(host: str, without: str) -> bool:
    """Whether a NO_PROXY list names the host: by a domain, an address or a network; never for localhost."""
    if host == "localhost" or proxy_bypass_environment(host, {"no": without}):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in without.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return address.is_loopback
