"""The clients of a promtail.yaml -> Outputs."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from atalaia.collector.outputs.access import Secret
from atalaia.collector.plan import Output
from atalaia.collector.promtail.access import KEYS, access_of
from atalaia.collector.promtail.values import checked, labels_from
from atalaia.environment.units import parse_duration, parse_size
from atalaia.environment.yamlfile import Node, Reader

_SECONDS = 1e9
_KEYS = {
    "name",
    "url",
    "tenant_id",
    "external_labels",
    "headers",
    "timeout",
    "batchwait",
    "batchsize",
    "backoff_config",
    "drop_rate_limited_batches",
    "format",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # part of a file's name
_SMALLEST = 1 << 10  # bytes of a push


def outputs_of(reader: Reader, root: dict[str, Node], path: Path) -> tuple[Output, ...]:
    """Where the entries go; what is wrong, which the reader is told, is left out."""
    clients = list(reader.sequence(root.get("clients"), "clients"))
    if "client" in root:
        clients.append(root["client"])
    if not clients:
        reader.problem(
            Node(None, 0),
            f"{path.name} has no clients",
            "add `clients:` with `- url: http://HOST:3100/loki/api/v1/push`",
        )
    outputs: list[Output] = []
    for node in clients:
        output = _output_of(reader, node)
        if output is None:
            continue
        if output.name and any(output.name == other.name for other in outputs):
            reader.problem(node, f"two clients are named {output.name!r}", "give each client a name of its own")
        if any((output.url, output.tenant, output.name) == (o.url, o.tenant, o.name) for o in outputs):
            reader.problem(node, f"two clients push to {output.url}", "leave one out, or tell them apart: `name: NAME`")
        outputs.append(output)
    return tuple(outputs)


def _output_of(reader: Reader, node: Node) -> Output | None:
    client = reader.mapping(node, "clients", _KEYS | KEYS)
    written = reader.text(client.get("url"), "clients.url") or ""
    found = _address(written)
    if found is None:
        reader.problem(
            client.get("url", node),
            f"clients.url is {_shown(written)!r}",
            "give the push address, such as http://127.0.0.1:3100/loki/api/v1/push",
        )
        return None
    url, user = found
    access = access_of(reader, node, client, user)
    backoff = reader.mapping(
        client.get("backoff_config"), "backoff_config", {"min_period", "max_period", "max_retries"}
    )
    external = {k: v for k, v in labels_from(reader, client.get("external_labels"), "external_labels").items() if v}
    retries = checked(reader, backoff.get("max_retries"), "max_retries", _count)
    shortest = _seconds(reader, backoff.get("min_period"), "min_period", 0.5)
    longest = _seconds(reader, backoff.get("max_period"), "max_period", max(5.0, shortest))
    if longest < shortest:
        reader.problem(backoff["max_period"], "max_period is less than min_period", "give it min_period or more")
    size = checked(reader, client.get("batchsize"), "batchsize", parse_size)
    if size is not None and size < _SMALLEST:
        reader.problem(client["batchsize"], f"batchsize is {size} bytes", f"give {_SMALLEST} or more; 1MiB is common")
    return Output(
        url,
        reader.text(client.get("tenant_id"), "tenant_id") or None,
        external,
        _headers(reader, client.get("headers")),
        access,
        _seconds(reader, client.get("timeout"), "timeout", 10.0),
        shortest,
        longest,
        name=_name(reader, client.get("name")),
        batch_wait=_seconds(reader, client.get("batchwait"), "batchwait", 1.0, least=0.0),
        batch_size=size or 1 << 20,
        max_retries=retries or None,
        drop_rate_limited=reader.flag(client.get("drop_rate_limited_batches"), "drop_rate_limited_batches"),
        format=_format(reader, client.get("format")),
    )


def _address(text: str) -> tuple[str, tuple[Secret, Secret] | None] | None:
    """An address without the user:password in it, and these; None for what is no address."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises ValueError for none
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if "@" not in parts.netloc:
        return text, None
    user = Secret(unquote(parts.username or "")), Secret(unquote(parts.password or ""))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), user


def _shown(text: str) -> str:
    """An address as it may be printed: without its password."""
    return re.sub(r"//[^/@]*@", "//…@", text)


def _name(reader: Reader, node: Node | None) -> str:
    name = reader.text(node, "clients.name") or ""
    if node is not None and name and not _NAME.fullmatch(name):
        reader.problem(node, f"clients.name is {name!r}", "write letters, digits, `.`, `_` and `-`: it names a file")
    return name


def _headers(reader: Reader, node: Node | None) -> dict[str, str]:
    headers = {k: v for k, v in reader.texts(node, "headers").items() if v is not None}
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[\t\x20-\x7e]*", value):
            reader.problem(node or Node(None, 0), f"headers: {name!r} cannot be sent", "write plain ASCII in one line")
    return headers


def _format(reader: Reader, node: Node | None) -> str:
    found = reader.text(node, "format") or "protobuf"
    if node is not None and found not in ("protobuf", "json"):
        reader.problem(node, f"format is {found!r}", "write protobuf (the default) or json")
    return found


def _seconds(reader: Reader, node: Node | None, what: str, default: float, least: float = 0.001) -> float:
    def convert(text: str) -> int:
        found = parse_duration(text)
        if found < least * _SECONDS:
            raise ValueError(f"{text!r} is too short")
        return found

    found = checked(reader, node, what, convert)
    return default if found is None else found / _SECONDS


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a number of times")
    return int(text)
