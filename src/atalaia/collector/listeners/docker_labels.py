"""Containers as Docker's API lists them -> labels, as Prometheus' docker_sd_configs names them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_DOCKER = "__meta_docker_"
_CONTAINER = _DOCKER + "container_"
_NETWORK = _DOCKER + "network_"
_PORT = _DOCKER + "port_"
STREAM = _CONTAINER + "log_stream"
Labels = dict[str, str]


def label_sets(
    containers: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    port: int = 80,
    host_networking_host: str = "localhost",
    match_first_network: bool = True,
) -> Iterator[tuple[str, list[Labels]]]:
    """The id of each container and its label sets: one for each of its networks and TCP ports.

    `containers`: GET /containers/json; `networks`: GET /networks. `port` is the address's where none is exposed.
    """
    by_id = {container["Id"]: container for container in containers}
    by_network = {network["Id"]: _network(network) for network in networks}
    for container in containers:
        if not container.get("Names"):
            continue
        mode = (container.get("HostConfig") or {}).get("NetworkMode", "")
        common = {
            _CONTAINER + "id": container["Id"],
            _CONTAINER + "name": container["Names"][0],
            _CONTAINER + "network_mode": mode,
        }
        for name, value in (container.get("Labels") or {}).items():
            common[f"{_CONTAINER}label_{_plain(name)}"] = value
        ends = _ends(container, by_id)
        names = sorted(name for name, end in ends.items() if end)
        sets: list[Labels] = []
        for name in names[:1] if match_first_network else names:
            end = ends[name]
            ip = end.get("IPAddress") or ""
            address = f"{_joined(ip)}:{port}" if mode != "host" else host_networking_host
            plain = {**common, **by_network.get(end.get("NetworkID", ""), {}), _NETWORK + "ip": ip}
            ports = [one for one in container.get("Ports") or () if one.get("Type") == "tcp"]
            sets += [{**plain, **_port(one), "__address__": f"{_joined(ip)}:{one['PrivatePort']}"} for one in ports]
            if not ports:
                sets.append({**plain, "__address__": address})
        # A container without any network has no address, and is logged all the same.
        yield container["Id"], sets or [common]


def _ends(container: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The container's networks by name; those of the container whose network it shares."""
    seen = set()
    while True:
        found = (container.get("NetworkSettings") or {}).get("Networks") or {}
        mode = (container.get("HostConfig") or {}).get("NetworkMode", "")
        other = mode.removeprefix("container:")
        if found or other == mode or other not in by_id or other in seen:
            return dict(found)
        seen.add(other)
        container = by_id[other]


def _network(network: Mapping[str, Any]) -> Labels:
    found = {
        _NETWORK + "id": network["Id"],
        _NETWORK + "name": network.get("Name", ""),
        _NETWORK + "scope": network.get("Scope", ""),
        _NETWORK + "internal": str(bool(network.get("Internal"))).lower(),
        _NETWORK + "ingress": str(bool(network.get("Ingress"))).lower(),
    }
    for name, value in (network.get("Labels") or {}).items():
        found[f"{_NETWORK}label_{_plain(name)}"] = value
    return found


def _port(port: Mapping[str, Any]) -> Labels:
    found = {_PORT + "private": str(port["PrivatePort"])}
    if port.get("PublicPort"):
        found |= {_PORT + "public": str(port["PublicPort"]), _PORT + "public_ip": port.get("IP", "")}
    return found


def _joined(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
