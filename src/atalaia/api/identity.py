"""Which principal a request shows: a bearer token, or a user and a password."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from functools import cache

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from atalaia.environment import hashing
from atalaia.environment.principals import Principal, Principals

log = logging.getLogger("atalaia.api")
_REMEMBERED = 4096  # good passwords
_ADDRESSES = 4096  # whose failures are counted
_AT_ONCE = 2  # passwords hashed at the same time, 32 MiB each
_WAITING = 64  # that wait for it
_FAILURES = 10  # of an address within a minute, behind which its passwords are not looked at
_MINUTE = 60.0
_NEWS = 10.0  # seconds between two lines of the log about one address
_LONGEST = 4096  # bytes of an Authorization header


class Denied(Exception):
    """A request that is not answered: 401 for who is not known, 403 for what they may not, 429 for too many tries."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Failures:
    """Failed tries by address: how many there were within a minute, and when that was last told."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, tuple[float, int, float]] = OrderedDict()  # since, how many, told at

    def count(self, address: str) -> int:
        """Of this minute."""
        since, many, _ = self._by_address.get(address, (0.0, 0, 0.0))
        return many if time.monotonic() - since < _MINUTE else 0

    def add(self, address: str, why: str) -> None:
        """One more; told once in a while, never with what was shown."""
        now = time.monotonic()
        since, many, told = self._by_address.get(address, (now, 0, -_NEWS))
        if now - since >= _MINUTE:
            since, many = now, 0
        many += 1
        if now - told >= _NEWS:
            log.warning("event=access_denied address=%s reason=%r tries=%d", address, why, many)
            told = now
        self._by_address[address] = (since, many, told)
        self._by_address.move_to_end(address)
        while len(self._by_address) > _ADDRESSES:
            self._by_address.popitem(last=False)


_failures = Failures()


class Identities:
    """The principals of one state of the file. Passwords that were good are known again without hashing them slowly."""

    def __init__(self, principals: Principals) -> None:
        self._principals = principals
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, Principal] = OrderedDict()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def of(self, request: HTTPConnection) -> Principal:
        """Who asks. Raises Denied."""
        header = request.headers.get("authorization", "")
        address = request.client.host if request.client else "-"
        if not header:
            raise Denied(401, "this store asks who you are: send a bearer token, or a user and a password")
        kind, _, shown = header[:_LONGEST].partition(" ")
        match kind.lower():
            case "bearer":
                found = self._principals.of_token(shown.strip())
                why = "an unknown token"
            case "basic":
                found, why = await self._basic(shown.strip(), address)
            case _:
                raise Denied(401, "the Authorization header is neither Bearer nor Basic")
        if found is None:
            _failures.add(address, why)
            raise Denied(401, "the token, or the user and password, is not known here")
        return found

    async def _basic(self, shown: str, address: str) -> tuple[Principal | None, str]:
        try:
            text = base64.b64decode(shown, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None, "an unreadable header"
        name, sign, password = text.partition(":")
        if not sign:
            return None, "an unreadable header"
        principal = self._principals.named(name)
        if principal is not None and principal.kind == "token":  # for clients that know no bearer tokens
            good = hashing.same(principal.secret, hashing.of_token(password))
            return (principal if good else None), f"a wrong token of {name}"
        key = hmac.digest(self._key, text.encode(), hashlib.sha256)
        if key in self._good:
            self._good.move_to_end(key)
            return self._good[key], ""
        if not await self._is_password(password, principal, address):
            return None, f"a wrong password of {name}" if principal else "an unknown user"
        assert principal is not None
        self._good[key] = principal
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)
        return principal, ""

    async def _is_password(self, password: str, principal: Principal | None, address: str) -> bool:
        """Slow on purpose, so few at a time, and not without end for one address."""
        if _failures.count(address) >= _FAILURES or self._waiting >= _WAITING:
            raise Denied(429, "too many wrong passwords: try again in a minute")
        self._waiting += 1
        try:
            async with self._slots:
                return await run_in_threadpool(_compared, password, principal)
        finally:
            self._waiting -= 1


def _compared(password: str, principal: Principal | None) -> bool:
    """Takes as long for somebody who is not known."""
    return hashing.is_password(password, principal.secret if principal else _nobody()) and principal is not None


@cache
def _nobody() -> str:
    return hashing.of_password(secrets.token_hex(16))
