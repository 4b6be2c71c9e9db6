"""access: who may ask the log store, from other machines or from this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from atalaia.cli.common import FileOption, JsonOption, command_name, console, print_json, table
from atalaia.environment import hashing, principals
from atalaia.environment.errors import InputError
from atalaia.environment.load import load
from atalaia.environment.principals import SCOPES, Principal, Principals, Scope

group = typer.Typer(help="Who may ask the log store: tokens and passwords.", no_args_is_help=True)
AccessOption = Annotated[
    Path | None,
    typer.Option("--access", help="The file of a store alone (default: the environment's).", show_default=False),
]
_SHORTEST = 8  # characters of a password


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group.command()(add)
    group.command("list")(list_)
    group.command()(revoke)
    app.add_typer(group, name="access")


def add(
    name: Annotated[str, typer.Argument(help="Who: letters, digits and _ . @ -", show_default=False)],
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant they may ask for; may be repeated.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="They may ask for every tenant.")] = False,
    scope: Annotated[str, typer.Option(help=f"What they may do, of {','.join(SCOPES)}.")] = "read",
    password: Annotated[
        bool, typer.Option("--password", help="A password, asked for or read from standard input, in place of a token.")
    ] = False,
    access: AccessOption = None,
    file: FileOption = None,
) -> None:
    """Let somebody in, and print their token.

    The token is shown once: only its hash is kept. A running store takes it at once.
    """
    from atalaia.api.tenants import is_tenant

    tenants = tuple(dict.fromkeys(tenant or ()))
    if bool(tenants) == all_tenants:
        raise InputError("say which tenants: --tenant NAME (may be repeated), or --all-tenants")
    for wrong in (one for one in tenants if not is_tenant(one)):
        raise InputError(f"--tenant {wrong!r} is not a tenant's name", "use letters, digits and !-_.*'(), at most 150")
    path = _path(access, file, create=True)
    known = principals.read(path) if path.exists() else Principals()
    given = None if all_tenants else tenants
    scopes = _scopes(scope)
    known.adding(Principal(name, given, scopes, "token", ""))  # before anybody types a password
    token = "" if password else hashing.new_token()
    secret = hashing.of_password(_password()) if password else hashing.of_token(token)
    made = Principal(name, given, scopes, "password" if password else "token", secret, principals.now())
    first = not path.exists()
    known.adding(made).save(path)
    if token:
        print(token)
    print(f"{name} may {', '.join(scopes)}: {_tenants(made)}", file=sys.stderr)
    if first:
        print(f"from now on the store asks everybody who they are ({path})", file=sys.stderr)


def list_(access: AccessOption = None, as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show who may do what."""
    path = _path(access, file)
    known = principals.read(path).all if path.exists() else ()
    if as_json:
        rows = [
            {"name": p.name, "kind": p.kind, "tenants": p.tenants, "scopes": p.scopes, "added": p.added} for p in known
        ]
        print_json({"file": str(path), "demanded": path.exists(), "principals": rows})
    elif not path.exists():
        print(f"nobody is asked who they are; `{command_name()} access add` begins that", file=sys.stderr)
    else:
        listed = [[p.name, p.kind, ",".join(p.scopes), _tenants(p), p.added] for p in known]
        console().print(table(["NAME", "KIND", "SCOPES", "TENANTS", "ADDED"], listed))


def revoke(
    name: Annotated[str, typer.Argument(help="Who.", show_default=False)],
    access: AccessOption = None,
    file: FileOption = None,
) -> None:
    """Let somebody in no more.

    A running store knows it at once.
    """
    path = _path(access, file)
    left = principals.read(path).without(name) if path.exists() else Principals().without(name)
    left.save(path)
    print(f"{name} may ask no more", file=sys.stderr)
    if not left.all:
        print(f"the store answers nobody but its own environment now; without {path} it asks nobody", file=sys.stderr)


def _path(access: Path | None, file: Path | None, create: bool = False) -> Path:
    if access is not None:
        return access
    environment = load(file, reachable=False)
    if create:
        environment.state.create()
    return environment.access_file


def _scopes(text: str) -> tuple[Scope, ...]:
    given = [part.strip() for part in text.split(",")]
    for part in given:
        if part not in SCOPES:
            raise InputError(f"--scope {part!r} is not known", f"known here: {', '.join(SCOPES)}")
    return tuple(known for known in SCOPES if known in given)


def _password() -> str:
    if sys.stdin.isatty():
        found = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        found = sys.stdin.readline().rstrip("\n")
    if len(found) < _SHORTEST:
        raise InputError(f"the password has fewer than {_SHORTEST} characters")
    return found


def _tenants(principal: Principal) -> str:
    return "all tenants" if principal.tenants is None else ",".join(principal.tenants)
