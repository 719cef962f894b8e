"""The REST side of faults, and the door for commands."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from workers.exchange.faults.commands import read_command
from workers.exchange.faults.desk import FaultDesk
from workers.exchange.faults.rules import ServerRules
from workers.exchange.rest_budget import RestBudget

_LOOPBACK: Final = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_HTML: Final = "<html><head><title>Just a moment...</title></head><body>Service is being upgraded.</body></html>"
_STALL_SECONDS: Final = 3_600.0


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}


def _error(status: int, message: str, seconds: float | None = None) -> web.Response:
    text = json.dumps({"code": status, "msg": message})
    headers = _retry_after(seconds)
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)


def budget_middleware(budget: RestBudget) -> Middleware:
    """Requests beyond the weights of a window are answered with 429."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        wait_seconds = budget.spend(request.path, request.method)
        if wait_seconds is not None:
            return _error(429, "Too many requests", wait_seconds)
        return await handler(request)

    return middleware


def fault_middleware(rules: ServerRules) -> Middleware:
    """Requests that a fault waits for are answered by it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not rules.rest or not request.path.startswith("/api/"):
            return await handler(request)
        fault = rules.rest_fault(request.path, request.method, after=False)
        if fault is not None and fault["mode"] == "late":
            rules.note("rest", path=request.path, method=request.method, mode="late", after=False)
            await asyncio.sleep(fault["stall"])
            return await handler(request)
        if fault is None:
            answer = await handler(request)
            fault = rules.rest_fault(request.path, request.method, after=True)
            if fault is None:
                return answer
            if fault["mode"] == "late":
                rules.note("rest", path=request.path, method=request.method, mode="late", after=True)
                await asyncio.sleep(fault["stall"])
                return answer
        noted = {name: fault[name] for name in ("mode", "status", "after")}
        rules.note("rest", path=request.path, method=request.method, **noted)
        return await _spoilt(request, fault)

    return middleware


async def _spoilt(request: web.Request, fault: dict[str, Any]) -> web.StreamResponse:
    match fault["mode"]:
        case "timeout":
            await asyncio.sleep(_STALL_SECONDS)
        case "html":
            return web.Response(text=_HTML, content_type="text/html")
        case "wrong_json":
            return web.json_response({"unexpected": [1, None, {"price": True}]})
        case "broken_json":
            return web.Response(text='[[1700000040000,"3400.0', content_type="application/json")
        case "error":
            document = {"code": fault["code"], "msg": "on command"}
            return web.json_response(document, status=fault["status"])
        case "reset":
            cut(request)
    return _error(fault["status"], "on command", fault["retry_after"])


def cut(request: web.Request) -> None:
    """Reset the connection of a request."""
    if request.transport is not None:
        raw = request.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()


async def upgrade_fault(rules: ServerRules) -> web.Response | None:
    """What a client gets instead of its WebSocket, if something waits for it."""
    fault = rules.upgrade()
    if fault is None:
        return None
    rules.note("http_status", status=fault["status"], stall=fault["stall"])
    await asyncio.sleep(fault["stall"])
    headers = _retry_after(fault["retry_after"])
    if fault["status"] == 301:
        headers["Location"] = "/elsewhere"
    return web.Response(text=_HTML, status=fault["status"], content_type="text/html", headers=headers)


def control(desk: FaultDesk, flush: Callable[[], None]) -> Handler:
    """`POST /exchange/control`: a command or a list of commands, from this machine only."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.remote not in _LOOPBACK:
            return _error(403, "commands are taken from this machine only")
        try:
            document = await request.json()
            documents = document if isinstance(document, list) else [document]
            commands = [read_command(one) for one in documents]  # all are read before the first is carried out
            applied = [desk.apply(command) for command in commands]
        except (ValueError, UnicodeDecodeError) as error:
            return _error(400, str(error))
        flush()
        return web.json_response({"applied": applied})

    return handler
