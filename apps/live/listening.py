"""What other processes tell this one through the channel layer: a login was signed out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from channels.layers import get_channel_layer
from redis import RedisError

from apps.engine import timeouts
from apps.live.signing_out import GROUP

log = logging.getLogger(__name__)


async def listen(sign_out: Callable[[str], None]) -> None:
    """Hear until cancelled. While Redis is away this tries again; the sockets' own checks do without it."""
    while True:
        try:
            await _hear(sign_out)
        except (RedisError, OSError) as error:
            log.warning("the channel layer does not answer: %s", error)
        await asyncio.sleep(timeouts.LIVE_LAYER_RETRY_SECONDS)


async def _hear(sign_out: Callable[[str], None]) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(GROUP, channel)
    while True:
        message = await layer.receive(channel)
        if message.get("type") == "live.signed_out":
            sign_out(str(message.get("mark")))
