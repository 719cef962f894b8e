"""Is the stack healthy: every service runs, and the web process says so of everything it can see."""

from __future__ import annotations

import dataclasses
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from apps.ops.embedded.home import Home
from apps.ops.stack.bootstrap import START_FILE
from apps.ops.stack.manager import Manager, ServiceState
from apps.ops.stack.runtime import Runtime

HEALTH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Status:
    services: list[ServiceState]
    """Empty if nothing runs."""
    health: dict[str, Any] | None
    """The parts of /health; None if nobody answered."""
    web_is_well: bool
    start: dict[str, Any] | None = None
    """Steps of the last start of trading, with their seconds; None if it is not known."""

    @property
    def healthy(self) -> bool:
        return bool(self.services) and self.web_is_well and not self.not_running

    @property
    def not_running(self) -> list[str]:
        return [one.name for one in self.services if one.state != "RUNNING"]


def read_status(home: Home, runtime: Runtime) -> Status:
    try:
        states = Manager(home, runtime).states()
    except OSError:
        return Status([], None, web_is_well=False)
    well, health = _health(runtime)
    return Status(states, health, well, _start(home))


def _start(home: Home) -> dict[str, Any] | None:
    try:
        return _parts((home.root / "run" / START_FILE).read_bytes()) or None
    except OSError:
        return None


def _health(runtime: Runtime) -> tuple[bool, dict[str, Any] | None]:
    request = urllib.request.Request(f"{runtime.url}health")  # noqa: S310  (always http, always this machine)
    try:
        with urllib.request.urlopen(request, timeout=HEALTH_SECONDS) as answer:  # noqa: S310
            return True, _parts(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return False, _parts(error.read())
    except (OSError, http.client.HTTPException):
        return False, None


def _parts(body: bytes) -> dict[str, Any]:
    try:
        parts = json.loads(body)
    except ValueError:
        return {}
    return parts if isinstance(parts, dict) else {}


def as_json(status: Status, runtime: Runtime) -> dict[str, Any]:
    return {
        "healthy": status.healthy,
        "services": [dataclasses.asdict(one) for one in status.services],
        "url": runtime.url,
        "exchange": {name: runtime.exchange.get(name) for name in ("ws_url", "rest_url")},
        "health": status.health,
        "start": status.start,
    }


def show(status: Status, runtime: Runtime, console: Console) -> None:
    if not status.services:
        console.print("Nothing is running here. Start it with: make demo")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "pid", "up", "restarts"):
        table.add_column(heading, justify="left" if heading in ("service", "state") else "right")
    for one in status.services:
        up = "" if one.uptime_s is None else f"{one.uptime_s} s"
        table.add_row(one.name, one.state, str(one.pid or ""), up, str(one.restarts))
    console.print(table)
    console.print(
        f"\n{runtime.url} ({runtime.mode}): {'healthy' if status.healthy else 'not healthy'}", highlight=False
    )
    for line in complaints(status):
        console.print(f"  {line}", highlight=False)
    if status.start:
        steps = ", ".join(f"{step['name']} {step['seconds']:.1f} s" for step in status.start["steps"])
        held = f"; {status.start['reason']}" if status.start["reason"] else ""
        console.print(f"  trading started at {status.start['at'][:19]} UTC: {steps}{held}", highlight=False)


def complaints(status: Status) -> list[str]:
    """Why it is not healthy, one line each."""
    lines = [f"{one.name}: {one.state}" for one in status.services if one.state != "RUNNING"]
    if status.health is None:
        lines.append("web: does not answer")
    elif not status.web_is_well:
        lines.append(f"web: {json.dumps(status.health) if status.health else 'has no health page'}")
    return lines
