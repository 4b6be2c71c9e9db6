"""The clients of a promtail.yaml -> Output."""

from __future__ import annotations

from pathlib import Path

from atalaia.collector.plan import Output
from atalaia.collector.promtail.values import checked, labels_from
from atalaia.environment.connection import Connection
from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader

_SECONDS = 1e9


def output_of(reader: Reader, root: dict[str, Node], path: Path) -> Output | None:
    """Where the entries go; None for no client, or a wrong one, which the reader is told."""
    clients = reader.sequence(root.get("clients"), "clients")
    if "client" in root:
        clients.append(root["client"])
    if not clients:
        reader.problem(
            Node(None, 0),
            f"{path.name} has no clients",
            "add `clients:` with `- url: http://HOST:3100/loki/api/v1/push`",
        )
        return None
    if len(clients) > 1:
        reader.problem(
            clients[1],
            "several clients are not built yet",
            "run one collector a client, each with its own positions file",
        )
    known = {
        "url",
        "tenant_id",
        "external_labels",
        "headers",
        "basic_auth",
        "bearer_token",
        "bearer_token_file",
        "timeout",
        "tls_config",
    }
    known |= {"batchwait", "batchsize", "backoff_config", "name"}
    client = reader.mapping(clients[0], "clients", known)
    url = reader.text(client.get("url"), "clients.url") or ""
    if not url.startswith(("http://", "https://")):
        reader.problem(
            client.get("url", clients[0]),
            f"clients.url is {url!r}",
            "give the push address, such as http://127.0.0.1:3100/loki/api/v1/push",
        )
        return None
    basic = reader.mapping(client.get("basic_auth"), "basic_auth", {"username", "password", "password_file"})
    backoff = reader.mapping(
        client.get("backoff_config"), "backoff_config", {"min_period", "max_period", "max_retries"}
    )
    user = reader.text(basic.get("username"), "basic_auth.username")
    password = reader.text(basic.get("password"), "basic_auth.password") or _secret(reader, basic.get("password_file"))
    external = {k: v for k, v in labels_from(reader, client.get("external_labels"), "external_labels").items() if v}
    headers = {k: v for k, v in reader.texts(client.get("headers"), "headers").items() if v is not None}

    def seconds(node: Node | None, what: str, default: float) -> float:
        found = checked(reader, node, what, parse_duration)
        return default if found is None else found / _SECONDS

    token = reader.text(client.get("bearer_token"), "bearer_token") or _secret(reader, client.get("bearer_token_file"))
    tenant = reader.text(client.get("tenant_id"), "tenant_id")
    files = _tls(reader, client.get("tls_config"))
    trust = None
    if any(files):
        base = Output(url).base
        ca, certificate, key = files
        trust = Connection(base, tenant, user, password, token=token, ca=ca, certificate=certificate, key=key)
    return Output(
        url,
        tenant,
        external,
        headers,
        (user, password or "") if user else None,
        token,
        seconds(client.get("timeout"), "timeout", 10.0),
        seconds(backoff.get("min_period"), "min_period", 0.5),
        seconds(backoff.get("max_period"), "max_period", 300.0),
        trust,
    )


def _tls(reader: Reader, node: Node | None) -> tuple[Path | None, Path | None, Path | None]:
    """Who signed the server's certificate, and the certificate and key that are shown; None for what is not given."""
    given = reader.mapping(
        node, "tls_config", {"ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"}
    )
    if (server := given.get("server_name")) is not None:
        reader.problem(server, "tls_config.server_name is not built", "ask the server by the name in its certificate")
    skip = given.get("insecure_skip_verify")
    if skip is not None and str(reader.text(skip, "insecure_skip_verify")).lower() != "false":
        remedy = "name who signed its certificate: ca_file: FILE"
        reader.problem(skip, "a server that nobody vouches for is not asked", remedy)
    found: dict[str, Path] = {}
    for name in ("ca_file", "cert_file", "key_file"):
        text = reader.text(given.get(name), name)
        if text is not None:
            found[name] = Path(text)
            if not found[name].is_file():
                reader.problem(given[name], f"{name} {text}: there is no such file", "give the path of a PEM file")
    pair = [name for name in ("cert_file", "key_file") if name in found]
    if len(pair) == 1:
        reader.problem(given[pair[0]], "cert_file and key_file go together", "give both")
    return found.get("ca_file"), found.get("cert_file"), found.get("key_file")


def _secret(reader: Reader, node: Node | None) -> str | None:
    name = reader.text(node, "file")
    if node is None or name is None:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reader.problem(node, f"{name} cannot be read: {error}", "name a file that the collector may read")
        return None
