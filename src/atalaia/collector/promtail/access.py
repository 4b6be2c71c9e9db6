"""What lets a client in, as Prometheus' HTTP clients are configured: credentials, OAuth 2, TLS, proxies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from atalaia.collector.outputs.access import Access, OAuth2, Proxy, Secret, Tls
from atalaia.environment.errors import InputError
from atalaia.environment.yamlfile import Node, Reader

log = logging.getLogger("atalaia.collector")
_PROXY = {"proxy_url", "no_proxy", "proxy_from_environment", "proxy_connect_header"}
_WAYS = ("basic_auth", "authorization", "oauth2", "bearer_token", "bearer_token_file")
_TLS = {
    "ca",
    "ca_file",
    "cert",
    "cert_file",
    "key",
    "key_file",
    "server_name",
    "insecure_skip_verify",
    "min_version",
    "max_version",
}
_VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
KEYS = {*_WAYS, *_PROXY, "tls_config", "follow_redirects", "enable_http2"}


def access_of(reader: Reader, node: Node, body: Mapping[str, Node], user: tuple[Secret, Secret] | None) -> Access:
    """Of a client's keys; `user`: the user and password of its address."""
    given = [way for way in _WAYS if way in body]
    if len(given) > 1:
        reader.problem(body[given[1]], f"{given[0]} and {given[1]} exclude each other", "keep one of them")
    tls, proxy = _tls(reader, body.get("tls_config")), _proxy(reader, body)
    redirects = "follow_redirects" not in body or reader.flag(body["follow_redirects"], "follow_redirects")
    reader.flag(body.get("enable_http2"), "enable_http2")  # HTTP/1.1 does the same for pushes one after the other
    if "basic_auth" in body:
        return _basic(reader, body["basic_auth"], tls, proxy, redirects)
    if "oauth2" in body:
        return Access(oauth2=_oauth2(reader, body["oauth2"]), tls=tls, proxy=proxy, follow_redirects=redirects)
    if "authorization" in body:
        entry = reader.mapping(body["authorization"], "authorization", {"type", "credentials", "credentials_file"})
        scheme = reader.text(entry.get("type"), "authorization.type") or "Bearer"
        if scheme.lower() == "basic":
            reader.problem(entry["type"], "authorization.type is basic", "use basic_auth")
        secret = _secret(reader, entry, "credentials", body["authorization"])
        return Access(secret=secret, scheme=scheme, tls=tls, proxy=proxy, follow_redirects=redirects)
    if "bearer_token" in body or "bearer_token_file" in body:
        secret = _secret(reader, body, "bearer_token", node)
        return Access(secret=secret, tls=tls, proxy=proxy, follow_redirects=redirects)
    name, password = user or (None, None)
    return Access(name, password, tls=tls, proxy=proxy, follow_redirects=redirects)


def _basic(reader: Reader, node: Node, tls: Tls, proxy: Proxy, redirects: bool) -> Access:
    known = {"username", "username_file", "password", "password_file"}
    basic = reader.mapping(node, "basic_auth", known)
    user = _secret(reader, basic, "username", node) or Secret("")
    return Access(user, _secret(reader, basic, "password", node), tls=tls, proxy=proxy, follow_redirects=redirects)


def _oauth2(reader: Reader, node: Node) -> OAuth2 | None:
    known = {"client_id", "client_secret", "client_secret_file", "scopes", "token_url", "endpoint_params"}
    body = reader.mapping(node, "oauth2", known | _PROXY | {"tls_config"})
    identity, url = (reader.text(body.get(key), f"oauth2.{key}") for key in ("client_id", "token_url"))
    for key, value in (("client_id", identity), ("token_url", url)):
        if not value:
            reader.problem(node, f"oauth2 has no {key}", f"add `{key}:`")
    if url and not url.startswith(("http://", "https://")):
        reader.problem(body["token_url"], f"oauth2.token_url is {url!r}", "give an http:// or https:// address")
    scopes = (reader.text(scope, "scopes") for scope in reader.sequence(body.get("scopes"), "oauth2.scopes"))
    parameters = reader.texts(body.get("endpoint_params"), "endpoint_params")
    secret = _secret(reader, body, "client_secret", node) or Secret("")
    if not identity or not url:
        return None
    return OAuth2(
        identity,
        secret,
        url,
        tuple(scope for scope in scopes if scope),
        {key: value for key, value in parameters.items() if value is not None},
        _tls(reader, body.get("tls_config")),
        _proxy(reader, body),
    )


def _proxy(reader: Reader, body: Mapping[str, Node]) -> Proxy:
    url = reader.text(body.get("proxy_url"), "proxy_url")
    if url and not url.startswith(("http://", "https://")):
        reader.problem(body["proxy_url"], "proxy_url is no http:// or https:// address", "name an HTTP proxy")
        url = None
    environment = reader.flag(body.get("proxy_from_environment"), "proxy_from_environment")
    without = reader.text(body.get("no_proxy"), "no_proxy")
    if environment and (url or without):
        other = "proxy_url" if url else "no_proxy"
        reader.problem(body[other], f"{other} and proxy_from_environment exclude each other", "keep one of them")
    headers = {}
    for name, node in reader.mapping(body.get("proxy_connect_header"), "proxy_connect_header").items():
        # Prometheus writes a list of values for each.
        values = node.value if isinstance(node.value, list) else [node]
        headers[name] = ", ".join(text for value in values if (text := reader.text(value, name)) is not None)
    return Proxy(url or None, environment, without, headers)


def _tls(reader: Reader, node: Node | None) -> Tls:
    body = reader.mapping(node, "tls_config", _TLS)
    for inline in ("cert", "key"):
        if inline in body:
            reader.problem(body[inline], f"tls_config.{inline} as text is not built", f"use {inline}_file: FILE")
    files: dict[str, Path] = {}
    for name in ("ca_file", "cert_file", "key_file"):
        text = reader.text(body.get(name), name)
        if text:
            files[name] = Path(text)
            if not files[name].is_file():
                reader.problem(body[name], f"{name} {text}: there is no such file", "give the path of a PEM file")
    pair = [name for name in ("cert_file", "key_file") if name in files]
    if len(pair) == 1:
        reader.problem(body[pair[0]], "cert_file and key_file go together", "give both")
    if "ca" in body and "ca_file" in files:
        reader.problem(body["ca"], "ca and ca_file exclude each other", "keep one of them")
    insecure = reader.flag(body.get("insecure_skip_verify"), "insecure_skip_verify")
    if insecure:
        log.warning(
            "event=unverified_server file=%s line=%d reason='insecure_skip_verify: anybody in between can read and"
            " change what is sent; name who signed its certificate instead: ca_file'",
            reader.path.name,
            body["insecure_skip_verify"].line,
        )
    return Tls(
        files.get("ca_file"),
        reader.text(body.get("ca"), "ca"),
        files.get("cert_file"),
        files.get("key_file"),
        reader.text(body.get("server_name"), "server_name"),
        insecure,
        _version(reader, body),
    )


def _version(reader: Reader, body: Mapping[str, Node]) -> str | None:
    if "max_version" in body:
        reader.problem(body["max_version"], "tls_config.max_version is not built", "leave it out")
    version = reader.text(body.get("min_version"), "min_version")
    if version is not None and version not in _VERSIONS:
        reader.problem(body["min_version"], f"min_version is {version!r}", f"known are: {', '.join(_VERSIONS)}")
        return None
    return version


def _secret(reader: Reader, body: Mapping[str, Node], key: str, node: Node) -> Secret | None:
    """The text of `key`, or of the file that `key_file` names."""
    text, name = reader.text(body.get(key), key), reader.text(body.get(f"{key}_file"), f"{key}_file")
    if text is not None and name is not None:
        reader.problem(node, f"{key} and {key}_file exclude each other", "keep one of them")
    if name is None:
        return None if text is None else Secret(text)
    secret = Secret(file=Path(name))
    try:
        secret.read()
    except InputError as error:
        reader.problem(body[f"{key}_file"], error.what, error.remedy or "name a file that the collector may read")
    return secret
