"""The stage that tells where an address is: geoip."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import jmespath
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.environment.yamlfile import Node, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    import maxminddb

_TYPES = ("city", "country", "asn")
_PLACE = {
    "geoip_city_name": ("city", "names", "en"),
    "geoip_country_name": ("country", "names", "en"),
    "geoip_continent_name": ("continent", "names", "en"),
    "geoip_continent_code": ("continent", "code"),
    "geoip_postal_code": ("postal", "code"),
    "geoip_timezone": ("location", "time_zone"),
    "geoip_subdivision_name": ("subdivisions", -1, "names", "en"),
    "geoip_subdivision_code": ("subdivisions", -1, "iso_code"),
}
_POINT = {
    "geoip_location_latitude": ("location", "latitude"),
    "geoip_location_longitude": ("location", "longitude"),
}
_SYSTEM = {
    "geoip_autonomous_system_number": ("autonomous_system_number",),
    "geoip_autonomous_system_organization": ("autonomous_system_organization",),
}
_REMEMBERED = 10_000  # addresses whose answer is kept


@dataclass(slots=True)
class GeoIP:
    """`geoip`: labels of what a MaxMind database knows of the address in `source`.

    `kind`: city, country or asn. `lookups`: extracted values that JMESPath finds in the database's record. An address
    that is none, or that the database does not have, changes nothing. Each distinct address is looked up once.
    """

    reader: maxminddb.Reader
    source: str
    kind: str
    lookups: Mapping[str, str] = field(default_factory=dict)
    _find: Callable[[str], tuple[Mapping[str, str], Mapping[str, str]]] = field(init=False, repr=False)
    name: ClassVar[str] = "geoip"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "geoip", {"db", "source", "db_type", "custom_lookups"})
        path = needed(reader, "geoip", body, "db")
        source = needed(reader, "geoip", body, "source")
        kind = needed(reader, "geoip", body, "db_type")
        if kind not in _TYPES:
            raise StageError(f"db_type is {kind!r}; it can be {', '.join(_TYPES)}")
        custom = reader.texts(body.get("custom_lookups"), "custom_lookups")
        return cls(_opened(path), source, kind, {name: text or name for name, text in custom.items()})

    def __post_init__(self) -> None:
        try:
            compiled = {name: jmespath.compile(text) for name, text in self.lookups.items()}
        except jmespath.exceptions.JMESPathError as error:
            raise StageError(f"custom_lookups: {error}") from error

        def find(text: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
            record = _record(self.reader, text)
            if not isinstance(record, dict):
                return {}, {}
            found = {name: _searched(expression, record) for name, expression in compiled.items()}
            return self._labels(record), {name: _text(value) for name, value in found.items() if value is not None}

        self._find = lru_cache(_REMEMBERED)(find)

    def __deepcopy__(self, memo: object) -> GeoIP:
        """Itself: it has no state, and any number of threads may read a database."""
        return self

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source})

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        encoded = entries.source(self.source).dictionary_encode()
        found = [self._find(text) for text in encoded.dictionary.to_pylist()]

        def columns(part: int) -> dict[str, pa.Array]:
            names = dict.fromkeys(name for one in found for name in one[part])
            return {
                name: pa.array([one[part].get(name) for one in found], pa.utf8()).take(encoded.indices)
                for name in names
            }

        labels = columns(0)
        for name, value in labels.items():
            if value.null_count and name in entries.labels:
                labels[name] = pc.coalesce(value, entries.labels[name])
        return entries.with_labels(labels).with_extracted(columns(1))

    def _labels(self, record: Mapping[str, Any]) -> dict[str, str]:
        if self.kind == "asn":
            found = {name: _at(record, path) for name, path in _SYSTEM.items()}
            return {name: str(value) for name, value in found.items() if value}
        named = {name: _at(record, path) for name, path in _PLACE.items()}
        labels = {name: str(value) for name, value in named.items() if value}
        point = {name: _at(record, path) for name, path in _POINT.items()}
        if None not in point.values():
            labels |= {name: _text(value) for name, value in point.items()}
        return labels


def _opened(path: str) -> maxminddb.Reader:
    import maxminddb  # only those who use the stage need it

    try:
        return maxminddb.open_database(path)
    except (OSError, maxminddb.InvalidDatabaseError, ValueError) as error:
        raise StageError(f"the database {path} cannot be opened: {error}") from error


def _record(reader: maxminddb.Reader, text: str) -> object:
    """What the database has of an address; None for nothing, and for what is no address."""
    import maxminddb

    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        address = address.ipv4_mapped or address
    try:
        return reader.get(address)
    except (ValueError, maxminddb.InvalidDatabaseError):
        return None  # an IPv6 address and a database without these; or a damaged record


def _searched(expression: Any, record: object) -> object:
    """What a JMESPath finds; None also where it cannot be applied."""
    try:
        return expression.search(record)
    except jmespath.exceptions.JMESPathError:
        return None


def _at(record: object, path: tuple[str | int, ...]) -> Any:
    for key in path:
        if isinstance(key, str) and isinstance(record, dict):
            record = record.get(key)
        elif isinstance(key, int) and isinstance(record, list) and record:
            record = record[key]
        else:
            return None
    return record


def _text(value: object) -> str:
    """A value as Go prints it: 39.1027, and 2 for 2.0."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return orjson.dumps(value).decode()
