"""Chapter 1: the services as they run, and how to rebuild them from nothing."""

from __future__ import annotations

from atalaia.diagnosis.language import Language
from atalaia.runbook.facts import Fact, RunbookFacts, ServiceFacts, StoreFacts, Unknown
from atalaia.runbook.markdown import block, code, plain, table
from atalaia.runbook.texts import say, shown, shown_count, shown_size, shown_time, texts, unknown

_VERSIONS = (("IPv4", False), ("IPv6", True))


def setup_chapter(facts: RunbookFacts, language: Language) -> list[str]:
    """The chapter's paragraphs."""
    told = texts(language)
    heading = [told[f"label_{name}"] for name in ("name", "kind", "state", "version", "port")]
    rows = [_row(service, language) for service in facts.services]
    servers = [service for service in facts.services if service.kind == "postgres"]
    others = [service for service in facts.services if service.kind == "collector"]
    stores = [service for service in facts.services if service.kind == "store"]
    paragraphs = [f"## {told['chapter_setup']}", told["services_lead"]]
    paragraphs.append(table([*heading, *(name for name, _ in _VERSIONS)], rows))
    paragraphs.append(f"### {told['section_postgres']}")
    paragraphs += _details(servers, language) if servers else [told["no_postgres"]]
    paragraphs.append(f"### {told['section_collector']}")
    if facts.targets:
        paragraphs += [told["targets"], "\n".join(f"- {code(target)}" for target in facts.targets)]
    else:
        paragraphs.append(told["no_targets"])
    paragraphs += _details(others, language)
    paragraphs += [f"### {told['section_store']}", _store(facts.store, language), *_details(stores, language)]
    paragraphs += [f"### {told['section_rebuild']}", told["rebuild_lead"], block(facts.commands.rebuild, "bash")]
    if isinstance(facts.configuration, Unknown):
        return [*paragraphs, say(language, "configuration_unknown", value=unknown(facts.configuration, language))]
    return [*paragraphs, told["configuration"], block([facts.configuration.rstrip("\n")], "toml")]


def _row(service: ServiceFacts, language: Language) -> list[str]:
    cells = [code(service.name), texts(language)[f"kind_{service.kind}"]]
    cells += [_state(service, language), shown(service.version, language), _port(service, language)]
    return cells + [_addresses(service, v6, language) for _, v6 in _VERSIONS]


def _state(service: ServiceFacts, language: Language) -> str:
    if isinstance(service.state, Unknown):
        return unknown(service.state, language)
    return texts(language)[f"service_{service.state}"]


def _port(service: ServiceFacts, language: Language) -> str:
    if isinstance(service.port, Unknown):
        return unknown(service.port, language)
    return texts(language)["no_port"] if service.port is None else str(service.port)


def _addresses(service: ServiceFacts, v6: bool, language: Language) -> str:
    if isinstance(service.addresses, Unknown):
        return unknown(service.addresses, language)
    # "*" is every address of both versions, as in listen_addresses.
    found = [address for address in service.addresses if address == "*" or (":" in address) is v6]
    return ", ".join(code(address) for address in found) or texts(language)["none"]


def _details(services: list[ServiceFacts], language: Language) -> list[str]:
    told = texts(language)
    paragraphs = []
    for service in services:
        directories = [
            (told["label_data"], _directory(service.data_directory, language)),
            (told["label_log"], _directory(service.log_directory, language)),
        ]
        lines = [f"**{plain(service.name)}**", *(f"- {label}: {value}" for label, value in directories)]
        paragraphs += [
            "\n".join([lines[0], "", *lines[1:]]),
            *_settings(service, language),
            *_started(service, language),
        ]
    return paragraphs


def _directory(directory: Fact | None, language: Language) -> str:
    return texts(language)["none"] if directory is None else shown(directory, language, as_code=True)


def _settings(service: ServiceFacts, language: Language) -> list[str]:
    told = texts(language)
    if isinstance(service.settings, Unknown):
        return [say(language, "settings_unknown", value=unknown(service.settings, language))]
    if not service.settings:
        return [told["no_settings"]]
    rows = [[code(name), code(value)] for name, value in service.settings]
    return [told["settings_lead"], table([told["label_setting"], told["label_value"]], rows)]


def _started(service: ServiceFacts, language: Language) -> list[str]:
    told = texts(language)
    if isinstance(service.started, Unknown):
        return [say(language, "started_unknown", value=unknown(service.started, language))]
    if not service.started:
        return [told["started_none"]]
    return [told["logs"], block(service.started)]


def _store(store: StoreFacts, language: Language) -> str:
    rows = [
        ("address", shown(store.address, language, as_code=True)),
        ("directory", shown(store.directory, language, as_code=True)),
        ("retention_age", shown(store.retention_age, language)),
        ("retention_size", shown(store.retention_size, language)),
        ("entries", shown_count(store.entries, language)),
        ("size", shown_size(store.size, language)),
        ("oldest", shown_time(store.oldest, language)),
        ("newest", shown_time(store.newest, language)),
    ]
    return "\n".join(f"- {texts(language)[f'label_{label}']}: {value}" for label, value in rows)
