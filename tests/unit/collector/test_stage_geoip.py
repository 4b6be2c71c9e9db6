from __future__ import annotations

import copy
from pathlib import Path

import pytest
from tests.unit.collector.flow_support import built, made, rows, stage
from tests.unit.collector.mmdb import database

KANSAS = {
    "city": {"names": {"en": "Kansas City", "de": "Kansas-Stadt"}},
    "country": {"names": {"en": "United States"}, "iso_code": "US"},
    "continent": {"code": "NA", "names": {"en": "North America"}},
    "location": {"latitude": 39.1027, "longitude": -94.0, "time_zone": "America/Chicago"},
    "postal": {"code": "64184"},
    "subdivisions": [{"iso_code": "XX", "names": {"en": "No"}}, {"iso_code": "MO", "names": {"en": "Missouri"}}],
}
LABELS = {
    "geoip_city_name": "Kansas City",
    "geoip_country_name": "United States",
    "geoip_continent_name": "North America",
    "geoip_continent_code": "NA",
    "geoip_location_latitude": "39.1027",
    "geoip_location_longitude": "-94",
    "geoip_postal_code": "64184",
    "geoip_timezone": "America/Chicago",
    "geoip_subdivision_name": "Missouri",
    "geoip_subdivision_code": "MO",
}
FRANCE = {"country": {"names": {"en": "France"}}, "location": {"latitude": 48.0}}


@pytest.fixture
def places(tmp_path: Path) -> Path:
    path = tmp_path / "city.mmdb"
    path.write_bytes(database({"34.120.0.0/16": KANSAS, "2a01::/16": FRANCE}))
    return path


def test_addresses_get_the_labels_of_their_place(places: Path) -> None:
    geoip = stage(f"- geoip: {{db: '{places}', source: ip, db_type: city}}")
    addresses = ["34.120.177.193", "2a01:e0a::1", "10.0.0.1", "no address", None, "::ffff:34.120.1.1", "fe80::1%eth0"]
    found = geoip(made(["x"] * len(addresses), {"job": "j"}, {"ip": addresses}))
    assert [labels for labels, _, _ in rows(found)] == [
        {"job": "j", **LABELS},
        {"job": "j", "geoip_country_name": "France"},
        *[{"job": "j"}] * 3,
        {"job": "j", **LABELS},
        {"job": "j"},
    ]


def test_a_label_stays_where_the_database_has_nothing(places: Path) -> None:
    geoip = stage(f"- geoip: {{db: '{places}', source: ip, db_type: country}}")
    found = geoip(made(["x", "y"], {"geoip_country_name": "before"}, {"ip": ["2a01::1", "1.1.1.1"]}))
    assert [labels["geoip_country_name"] for labels, _, _ in rows(found)] == ["France", "before"]
    assert rows(geoip(made(["x"]))) == rows(made(["x"]))
    assert copy.deepcopy(geoip) is geoip  # each output's collector has its own copy of the stages


def test_custom_lookups_are_extracted(places: Path) -> None:
    lookups = "iso: country.iso_code, german: city.names.de, lat: location.latitude"
    lookups += ", all: 'subdivisions[*].iso_code', bad: 'abs(city)'"
    geoip = stage(f"- geoip: {{db: '{places}', source: ip, db_type: city, custom_lookups: {{{lookups}}}}}")
    found = geoip(made(["x", "y"], {}, {"ip": ["34.120.0.1", "2a01::1"]}))
    assert {name: found.source(name).to_pylist() for name in ("iso", "german", "lat", "all")} == {
        "iso": ["US", None],
        "german": ["Kansas-Stadt", None],
        "lat": ["39.1027", "48"],
        "all": ['["XX","MO"]', None],
    }


def test_autonomous_systems_are_told(tmp_path: Path) -> None:
    path = tmp_path / "asn.mmdb"
    record = {"autonomous_system_number": 396982, "autonomous_system_organization": "GOOGLE-CLOUD-PLATFORM"}
    path.write_bytes(database({"34.0.0.0/8": record, "35.0.0.0/8": {"autonomous_system_number": 0}}))
    geoip = stage(f"- geoip: {{db: '{path}', source: ip, db_type: asn}}")
    found = geoip(made(["x", "y"], {}, {"ip": ["34.1.1.1", "35.1.1.1"]}))
    assert [labels for labels, _, _ in rows(found)] == [
        {
            "geoip_autonomous_system_number": "396982",
            "geoip_autonomous_system_organization": "GOOGLE-CLOUD-PLATFORM",
        },
        {},
    ]


def test_a_wrong_geoip_is_refused_with_its_line(places: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mmdb"
    damaged.write_bytes(b"nothing of that")
    for text, problem in [
        ("{source: ip, db_type: city}", "1: the stage geoip: it needs 'db'"),
        (f"{{db: '{places}', db_type: city}}", "it needs 'source'"),
        (f"{{db: '{places}', source: ip}}", "it needs 'db_type'"),
        (f"{{db: '{places}', source: ip, db_type: street}}", "db_type is 'street'; it can be city, country, asn"),
        ("{db: /nowhere.mmdb, source: ip, db_type: city}", "the database /nowhere.mmdb cannot be opened"),
        (f"{{db: '{damaged}', source: ip, db_type: city}}", "damaged.mmdb cannot be opened"),
        (f"{{db: '{places}', source: ip, db_type: city, custom_lookups: {{a: 'b['}}}}", "custom_lookups: "),
    ]:
        assert problem in "\n".join(built(f"- geoip: {text}")[1])
