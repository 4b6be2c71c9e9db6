"""Starts a supervisor in the background, follows it, and brings an environment down with or without one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process
from atalaia.supervisor.control import HOLD, Client
from atalaia.supervisor.keeper import State, Status
from atalaia.supervisor.layout import SUPERVISOR, Layout, process_file_of, recall
from atalaia.supervisor.service import in_stopping_order, services_of

Report = dict[str, Any]


def running(environment: Environment) -> Process | None:
    """The environment's supervisor, if one runs."""
    return process_file_of(environment, SUPERVISOR)


def report(environment: Environment) -> Report:
    """The status of all services, from the supervisor or, without one, from what runs."""
    if running(environment):
        try:
            with Client(environment.state.run, timeout=5) as client:
                return next(client.ask("status"))
        except (OSError, StopIteration):
            pass
    layout = recall(environment)
    services = []
    for service in services_of(layout) if layout else []:
        process = service.adopt()
        state = State.READY if process and service.ready(process)[0] else State.STARTING if process else State.STOPPED
        version = service.ready(process)[1] if process else ""
        message = "runs without a supervisor; `atalaia up` adopts it" if process else ""
        status = Status(
            service.name,
            service.kind,
            state,
            service.address,
            str(service.directory),
            process.pid if process else None,
            version,
            message=message,
        )
        services.append(asdict(status))
    return {
        "supervisor": None,
        "stopping": False,
        "stopped": not any(s["pid"] for s in services),
        "services": services,
    }


def launch(environment: Environment) -> None:
    """Start a supervisor in the background, unless one runs. Raises AtalaiaError when it ends at once."""
    if running(environment):
        return
    output = environment.state.own_logs / "supervisor.err"
    output.unlink(missing_ok=True)
    arguments = [sys.executable, "-m", "atalaia", "supervise", "--environment", str(environment.file)]
    process = processes.start(arguments, output=output, folder=environment.folder)
    deadline = time.monotonic() + 30
    while not _answers(environment):
        if process.wait(0.02):
            process.reap()
            said = output.read_text(errors="replace").strip()
            raise AtalaiaError(
                f"the supervisor ended at once: {said[-1000:] or 'it said nothing'}",
                f"see {environment.state.own_logs}",
            )
        if time.monotonic() > deadline:
            raise AtalaiaError("the supervisor does not answer after 30 s", f"see {environment.state.own_logs}")


def _answers(environment: Environment) -> bool:
    try:
        with Client(environment.state.run, timeout=1):
            return True
    except OSError:
        return False


def watch(environment: Environment, operation: str = "watch") -> Iterator[Report]:
    """Reports as they change. Ends with the supervisor."""
    try:
        with Client(environment.state.run) as client:
            yield from client.ask(operation)
    except OSError:
        return


@contextlib.contextmanager
def held(environment: Environment, name: str) -> Iterator[None]:
    """Keep one service stopped within; afterwards the supervisor starts it again, also when we are killed.

    Without a supervisor it is stopped, and not started again. Raises AtalaiaError when it does not stop.
    """
    if running(environment):
        with Client(environment.state.run) as client:
            for seen in client.ask(f"{HOLD}{name}"):
                if any(s["name"] == name and s["state"] == State.STOPPED for s in seen["services"]):
                    break
            else:
                raise AtalaiaError(
                    f"the supervisor does not stop {name}: it is held already, or going down", "wait, then try again"
                )
            yield
        return
    layout = recall(environment)
    for service in services_of(layout) if layout else []:
        process = service.adopt() if service.name == name else None
        if process and not processes.stop(process, service.stop_steps):
            raise AtalaiaError(f"{name} (PID {process.pid}) does not stop", "see its log")
    yield


def await_ready(environment: Environment, name: str, seconds: float = 120) -> str:
    """Wait until a service that a supervisor keeps is ready; what is wrong when it does not get so, else empty."""
    deadline = time.monotonic() + seconds
    before: int | None = None
    for seen in watch(environment):
        for found in (s for s in seen["services"] if s["name"] == name):
            before = found["restarts"] if before is None else before
            if found["state"] == State.READY:
                return ""
            if found["state"] == State.FAILED or found["restarts"] > before + 1:
                return str(found["message"]) or "it ends at once"
        if time.monotonic() > deadline:
            return f"it is not ready after {seconds:.0f} s"
    return "the supervisor has ended"


def bring_down(environment: Environment, tell: Callable[[Report], None]) -> None:
    """Stop everything; `tell` gets a report at every change. Without a supervisor, what it left is stopped here.

    Raises AtalaiaError when something does not end.
    """
    supervisor = running(environment)
    if supervisor:
        for seen in watch(environment, "stop"):
            tell(seen)
        if not supervisor.wait(180):
            raise AtalaiaError(
                f"the supervisor (PID {supervisor.pid}) does not end",
                "`atalaia status` shows what it waits for",
            )
    layout: Layout | None = recall(environment)
    stuck = []
    for service in [one for group in in_stopping_order(services_of(layout)) for one in group] if layout else []:
        process = service.adopt()
        if process and not processes.stop(process, service.stop_steps):
            stuck.append(f"{service.name} (PID {process.pid})")
    if stuck:
        raise AtalaiaError(f"still running: {', '.join(stuck)}", "look at their logs; `kill -9 PID` is the last resort")
