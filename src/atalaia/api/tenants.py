"""Whose entries a request is about: the tenants that X-Scope-OrgID names."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

from atalaia.environment.errors import InputError
from atalaia.logql.errors import NotBuilt
from atalaia.query.ranges import Tenants

_TENANT = re.compile(r"[A-Za-z0-9!\-_.*'()]{1,150}")


def tenant_to_push(request: HTTPConnection) -> str:
    """The tenant whose entries a request brings. Raises InputError."""
    return _named(request)


def tenant_to_delete(request: HTTPConnection) -> str:
    """The tenant whose entries a request deletes, or whose deletions it lists. Raises InputError."""
    return _named(request)


def tenant_to_rule(request: HTTPConnection) -> str:
    """The tenant whose rules a request changes. Raises InputError."""
    return _named(request)


def tenants_to_read(request: HTTPConnection) -> Tenants:
    """The tenants whose entries a request asks for. Raises InputError."""
    return (_named(request),)


def _named(request: HTTPConnection) -> str:
    """The tenant that X-Scope-OrgID names, or Loki's name for none."""
    name = request.headers.get("x-scope-orgid", "fake")
    if "|" in name:
        raise NotBuilt("reading several tenants at once")
    if not _TENANT.fullmatch(name):
        raise InputError(
            f"X-Scope-OrgID {name[:160]!r} is not a tenant's name: letters, digits and !-_.*'(), at most 150"
        )
    return name
