"""What the handlers work on, and how they state their routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.metrics import Metrics
from atalaia.api.pieces import Unsent
from atalaia.api.rate import PushRate
from atalaia.query.execute import Executor
from atalaia.query.explore import Explorer
from atalaia.query.scheduler import Scheduler
from atalaia.rules.ruler import Ruler
from atalaia.store.store import Store

Handler = Callable[[Request], Awaitable[Response]]
Spec = tuple[str, Handler, Sequence[str]]
"""A route: its path, who answers it, and by which methods."""
GET = ("GET",)
POST = ("POST",)
BOTH = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Served:
    """One server's store and what it is asked through."""

    store: Store
    executor: Executor
    explorer: Explorer
    scheduler: Scheduler
    unsent: Unsent
    ruler: Ruler
    metrics: Metrics
    settings: Mapping[str, object]
    """What the server was told, as /config shows it."""
    pushes: PushRate = field(default_factory=PushRate)
