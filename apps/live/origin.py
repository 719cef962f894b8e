"""Who may open a socket: pages that this very host served."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import OriginValidator, WebsocketDenier
from django.conf import settings

log = logging.getLogger(__name__)


def header(scope: dict[str, Any], name: bytes) -> str:
    return next((value.decode("latin1") for key, value in scope.get("headers", []) if key == name), "")


class OriginGuard(OriginValidator):  # type: ignore[misc]
    """Channels' check against ALLOWED_HOSTS, and the port of the page: another service of this host is foreign too.

    Channels denies in silence; a refused socket is worth a line in the log.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application, settings.ALLOWED_HOSTS)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        origin, host = header(scope, b"origin"), header(scope, b"host")
        try:
            parsed = urlsplit(origin)
            allowed = bool(host) and parsed.netloc == host and self.valid_origin(parsed)
        except ValueError:
            allowed = False
        if allowed:
            return await self.application(scope, receive, send)
        log.warning("socket refused: origin %r does not belong to host %r", origin[:200], host[:200])
        return await WebsocketDenier()(scope, receive, send)
