"""Whose entries a request is about: the tenants that X-Scope-OrgID names, as far as who asks may."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

from atalaia.environment.errors import InputError
from atalaia.query.ranges import Tenants

NAMELESS = "fake"
"""Loki's tenant of requests that name none."""
GRANTED = "atalaia.tenants"
"""Where in a request's scope the tenants stand that access lets it ask for; where nobody is asked, it is absent."""
_TENANT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9!\-_.*'()]{1,150}")


def tenant_to_push(request: HTTPConnection) -> str:
    """The tenant whose entries a request brings. Raises InputError."""
    return _one(request, "entries are pushed to one tenant")


def tenant_to_delete(request: HTTPConnection) -> str:
    """The tenant whose entries a request deletes, or whose deletions it lists. Raises InputError."""
    return _one(request, "entries are deleted from one tenant")


def tenant_to_rule(request: HTTPConnection) -> str:
    """The tenant whose rules a request changes. Raises InputError."""
    return _one(request, "rules are one tenant's")


def tenants_to_read(request: HTTPConnection) -> Tenants:
    """The tenants whose entries a request asks for, in order of their names. Raises InputError."""
    return _granted(request)


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called so, as in Loki."""
    return _TENANT.fullmatch(name) is not None


def named(request: HTTPConnection) -> Tenants | None:
    """The tenants that X-Scope-OrgID names, `a|b` several; None without it. Raises InputError."""
    header = request.headers.get("x-scope-orgid")
    if header is None:
        return None
    names = header.split("|")
    for name in names:
        if not is_tenant(name):
            raise InputError(
                f"X-Scope-OrgID {name[:160]!r} is not a tenant's name: letters, digits and !-_.*'(), at most 150"
            )
    return tuple(sorted(set(names)))


def _one(request: HTTPConnection, what: str) -> str:
    tenants = _granted(request)
    if len(tenants) > 1:
        raise InputError(f"X-Scope-OrgID names {len(tenants)} tenants; {what}", "send one request for each tenant")
    return tenants[0]


def _granted(request: HTTPConnection) -> Tenants:
    if GRANTED not in request.scope:
        return named(request) or (NAMELESS,)
    granted: Tenants = request.scope[GRANTED]
    if not granted:
        raise InputError("this address is about no tenant")  # its rule in scopes.py says so
    return granted
