"""What a server's answers say: which kind it is, when to ask again, and what a person can do."""

from __future__ import annotations

import email.utils
import time

import httpx

from atalaia.collector.outputs.sink import Unreachable
from atalaia.collector.plan import Output

_LONGEST = 300.0  # seconds that a server may ask us to wait
_ADVICE = {
    401: "it wants other credentials: see basic_auth, authorization or oauth2 of this client",
    403: "these credentials may not push there",
    404: "there is no push API at this path: see the client's url",
    405: "there is no push API at this path: see the client's url",
}


def is_ours(output: Output, http: httpx.Client) -> bool:
    """Whether Atalaia's store answers at the address. Raises Unreachable while nobody can tell."""
    try:
        answer = http.post(f"{output.base}/atalaia/v1/positions", json={"ids": []})
    except httpx.HTTPError as error:
        raise Unreachable(f"{output.base}: {error}") from error
    # A gateway before a Loki may answer 403 for what it does not know; a store of ours says what is missing.
    denied = answer.status_code == 401 or (answer.status_code == 403 and "www-authenticate" in answer.headers)
    if answer.status_code >= 500 or answer.status_code == 429 or denied:
        raise unreachable(output.base, answer)
    return answer.status_code == 200 and answer.headers.get("content-type", "").startswith("application/json")


def unreachable(url: str, answer: httpx.Response) -> Unreachable:
    """What to tell about an answer after which the same is sent again later."""
    text = f"{url} answered {answer.status_code}: {answer.text[:200].strip()}"
    if (advice := _ADVICE.get(answer.status_code)) is not None:
        text = f"{text} ({advice})"
    return Unreachable(text, retry_after(answer))


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds by the header Retry-After, a number or a date; None for none."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST)
