"""A browser's end of a socket, without a browser: frames go straight into the ASGI application.

Channels has one of these, but importing it needs daphne.
"""

# asgiref ships a marker of being typed, but its testing module carries no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from apps.live.frame import SOCKET_PATH

HOST = "127.0.0.1:8000"
WAIT_SECONDS = 10


class Socket:
    """One connection. Every wait is bounded by WAIT_SECONDS."""

    def __init__(
        self, key: str = "", *, host: str = HOST, origin: str | None = f"http://{HOST}", path: str = SOCKET_PATH,
        query: str = "",
    ) -> None:  # fmt: skip
        from cdb_project.asgi import application  # reads STATIC_ROOT at import, which a fixture makes first

        headers = [(b"host", host.encode()), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={key}".encode())]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
            "subprotocols": [],
        }
        self._end = ApplicationCommunicator(application, scope)

    async def connect(self) -> bool:
        """Whether the application accepts."""
        await self._end.send_input({"type": "websocket.connect"})
        answer = await self._end.receive_output(WAIT_SECONDS)
        return bool(answer["type"] == "websocket.accept")

    async def send(self, text: str) -> None:
        await self._end.send_input({"type": "websocket.receive", "text": text})

    async def send_bytes(self, content: bytes) -> None:
        await self._end.send_input({"type": "websocket.receive", "bytes": content})

    async def frame(self, kind: str | None = None, *, ack: bool = True) -> dict[str, Any]:
        """The next frame, or the next of `kind`. Snapshots and deltas are acknowledged unless told otherwise."""
        while True:
            message = await self._end.receive_output(WAIT_SECONDS)
            assert message["type"] == "websocket.send", message
            frame: dict[str, Any] = json.loads(message["text"])
            if ack and frame["type"] != "heartbeat":
                await self.send(json.dumps({"ack": frame["seq"]}))
            if kind is None or frame["type"] == kind:
                return frame

    async def nothing(self, seconds: float) -> bool:
        return bool(await self._end.receive_nothing(seconds))

    async def close_code(self) -> int:
        """The code with which the application closes, once what was under way has been read."""
        while True:
            message = await self._end.receive_output(WAIT_SECONDS)
            if message["type"] == "websocket.close":
                await self.leave()
                return int(message["code"])

    async def leave(self) -> None:
        """The browser goes away; the application ends."""
        await self._end.send_input({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(WAIT_SECONDS):
            await self._end.wait(WAIT_SECONDS)


def login(user: User) -> str:
    """A session of `user`; returns its key."""
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value
