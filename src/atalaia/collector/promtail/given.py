"""What a command line says beside a promtail.yaml, put over what the file says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from atalaia.environment.errors import InputError
from atalaia.environment.yamlfile import Node

_PAIR = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)
_SECRET = re.compile(r"password|secret|token|credentials|connection_string|^key$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


@dataclass(frozen=True, slots=True)
class Given:
    """`expand`: `${VAR}` is replaced. `settings`: keys of the file with dots, such as server.http_listen_port.

    `external_labels` go to every client that has no label of that name. `unused`: flags without a meaning here.
    `whole`: stages keep what no later stage reads, so that it can be shown.
    """

    expand: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    external_labels: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    stdin: bool = False
    whole: bool = False


def label_pairs(text: str) -> dict[str, str]:
    """Labels of `name=value,name=value`. Raises InputError."""
    found = {}
    for part in text.split(","):
        match = _PAIR.fullmatch(part)
        if match is None:
            raise InputError(f"-client.external-labels: {part!r} is not name=value", "for example env=prod,zone=a")
        found[match[1]] = match[2]
    return found


def put_over(root: Node, given: Given) -> None:
    """Change the root of a promtail.yaml as the command line says."""
    if not isinstance(root.value, dict):
        return
    for name, text in given.settings.items():
        *parents, last = name.split(".")
        at = root
        for parent in parents:
            below = at.value.get(parent)
            if below is None or not isinstance(below.value, dict):
                below = at.value[parent] = Node({}, 0)
            at = below
        at.value[last] = Node(_scalar(text), 0, text)
    client = root.value.get("client")
    # Promtail, too, uses the flags of a client only beside its address.
    if client is not None and client.line == 0 and "url" not in client.value:
        del root.value["client"]
    for one in _clients(root):
        labels = one.value.setdefault("external_labels", Node({}, 0)) if given.external_labels else None
        if labels is not None and isinstance(labels.value, dict):
            for name, value in given.external_labels.items():
                labels.value.setdefault(name, Node(value, 0, value))


def _scalar(text: str) -> object:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return found if isinstance(found, bool) else text


def _clients(root: Node) -> list[Node]:
    listed = root.value.get("clients")
    clients = list(listed.value) if listed is not None and isinstance(listed.value, list) else []
    if "client" in root.value:
        clients.append(root.value["client"])
    return [client for client in clients if isinstance(client.value, dict)]


def shown(root: Node) -> str:
    """A promtail.yaml as it was understood, for people: secrets are left out."""
    return yaml.safe_dump(_masked(root), sort_keys=False, allow_unicode=True, default_flow_style=False)


def _masked(node: Node, name: str = "") -> object:
    if isinstance(node.value, dict):
        return {key: _masked(value, key) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [_masked(value, name) for value in node.value]
    if node.value is not None and _SECRET.search(name) and not name.endswith("_file"):
        return "<secret>"
    if isinstance(node.value, (bool, int, float)) or node.value is None:
        return node.value
    return _USER_INFO.sub(r"\1:<secret>@", str(node.value))
