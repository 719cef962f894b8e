"""Signing out closes the open pages of that login at once, whichever web process holds them."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpRequest
from redis import RedisError

log = logging.getLogger(__name__)

GROUP: Final = "live"


def session_mark(session_key: str) -> str:
    """Names a login without giving it away: what travels through Redis must not be good for signing in."""
    return hashlib.sha256(f"live {session_key}".encode()).hexdigest()[:32]


def announce(request: HttpRequest, **_: Any) -> None:
    """Receiver of Django's `user_logged_out`. Without Redis the sockets' own check finds out within a minute."""
    session_key = request.session.session_key
    if session_key is None:
        return
    layer = get_channel_layer()
    message = {"type": "live.signed_out", "mark": session_mark(session_key)}
    try:
        async_to_sync(layer.group_send)(GROUP, message)
    except (RedisError, OSError) as error:
        log.warning("open pages are not told of the sign-out: %s", error)
