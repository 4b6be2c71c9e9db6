"""Which store an address means, with which options; nothing of a secret is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.backup import options
from atalaia.backup.site import place_of
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.remote import RemotePlace
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import InputError


@pytest.mark.parametrize(
    ("address", "given", "kind"),
    [
        ("s3://bucket/a/b", {"region": "eu-central-1", "access_key_id": "a", "secret_access_key": "s3cr3t"}, "S3Store"),
        ("s3://bucket", {"endpoint": "http://127.0.0.1:9", "virtual_hosted_style_request": False}, "S3Store"),
        ("gs://bucket/a/b", {}, "GCSStore"),
        ("az://container/a", {"account_name": "me", "account_key": "c2VjcmV0"}, "AzureStore"),
    ],
)
def test_stores(address: str, given: dict[str, str | bool], kind: str) -> None:
    place = place_of(address, BackupsSettings(repository=address, options=given))
    assert isinstance(place, RemotePlace)
    assert type(place.store).__name__ == kind
    assert place.address == address


def test_a_folder() -> None:
    assert place_of("/mnt/nas", BackupsSettings()) == LocalPlace(Path("/mnt/nas"))


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("s3://bucket/a", {"regoin": "eu"}),
        ("s3://bucket/a", {"access_key_id": "s3cr3t"}),
        ("az://container/a", {"account_name": "me", "account_key": "s3cr3t"}),
        ("gs://bucket/a", {"service_account_key": '{"private_key": "s3cr3t"}'}),
    ],
)
def test_wrong_options_are_refused(address: str, given: dict[str, str | int | bool]) -> None:
    with pytest.raises(InputError, match="cannot be used") as told:
        place_of(address, BackupsSettings(repository=address, options=given))
    assert "s3cr3t" not in str(told.value)


def test_options_of_a_store_go_before_those_of_all(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text('region = "file"\nsecret_access_key = "s3cr3t"\n["s3://one/x"]\naccess_key_id = "one"\n')
    file.chmod(0o600)
    settings = BackupsSettings(
        options={"region": "all", "endpoint": "https://e"},
        copies=("s3://two/x",),
        stores={"s3://two/x": {"region": "two"}},
        options_file=file,
    )
    assert options.of("s3://one/x", settings) == {
        "region": "file",
        "endpoint": "https://e",
        "secret_access_key": "s3cr3t",
        "access_key_id": "one",
    }
    assert options.of("s3://two/x", settings)["region"] == "two"
    file.write_text('secret_access_key = "s3cr3t')
    with pytest.raises(InputError, match="is not TOML") as told:
        options.of("s3://one/x", settings)
    assert "s3cr3t" not in str(told.value)
    file.chmod(0o644)
    with pytest.raises(InputError, match="others may read") as open_to_all:
        options.of("s3://one/x", settings)
    assert open_to_all.value.remedy == f"chmod 600 {file}"
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        options.of("s3://one/x", settings)


def test_options_for_no_repository_are_refused() -> None:
    with pytest.raises(ValueError, match="neither `repository` nor in `copies`"):
        BackupsSettings(repository="s3://one/x", stores={"s3://onee/x": {"region": "eu"}})
