"""OAuth 2 tokens by client credentials (RFC 6749, 4.4): fetched when needed, renewed before they end."""

from __future__ import annotations

import threading
import time

import httpx

from atalaia.collector.outputs.access import OAuth2
from atalaia.collector.outputs.sink import Unreachable
from atalaia.environment.errors import InputError

_EARLY = 10.0  # seconds before its end at which a token is renewed
_FOR_EVER = 365 * 86_400.0  # seconds, of a token without an end


class Tokens:
    """One token at a time, for any thread."""

    def __init__(self, oauth: OAuth2, http: httpx.Client) -> None:
        self._oauth = oauth
        self._http = http
        self._token = ""
        self._until = 0.0
        self._lock = threading.Lock()

    def get(self) -> str:
        """A token that is good for some seconds at least. Raises Unreachable."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._fetch()
            return self._token

    def fresh(self) -> str:
        """A new token: the one before was not taken. Raises Unreachable."""
        with self._lock:
            self._fetch()
            return self._token

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def _fetch(self) -> None:
        oauth = self._oauth
        form = {"grant_type": "client_credentials", **oauth.parameters}
        if oauth.scopes:
            form["scope"] = " ".join(oauth.scopes)
        try:
            secret = oauth.secret.read()
            # Servers differ in where they take the secret from: the header, or the form.
            answer = self._http.post(oauth.token_url, data=form, auth=httpx.BasicAuth(oauth.client_id, secret))
            if answer.status_code in (400, 401):
                given = {"client_id": oauth.client_id, "client_secret": secret}
                answer = self._http.post(oauth.token_url, data=form | given)
            if answer.status_code != 200:
                raise Unreachable(f"{oauth.token_url} gave no token: {answer.status_code} {answer.text[:200].strip()}")
            found = answer.json()
            self._token = str(found["access_token"])
            lifetime = float(found.get("expires_in") or _FOR_EVER)
        except (httpx.HTTPError, InputError) as error:
            raise Unreachable(f"{oauth.token_url}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{oauth.token_url} gave no token: {error!r}") from error
        # A short-lived one is used for half of its life.
        self._until = time.monotonic() + max(lifetime - _EARLY, lifetime / 2)
