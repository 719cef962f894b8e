"""Finding 1: redis-py 8 gives every read 5 s; a channel layer that waits for a message longer than that is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.conf import settings

pytestmark = pytest.mark.stack
IDLE_SECONDS = 7
LAYERS: dict[str, Any] = dict(settings.CHANNEL_LAYERS)
HOSTS = LAYERS["default"]["CONFIG"]["hosts"]


async def idle_then_message(layer: Any) -> Any:
    """What a consumer that has waited `IDLE_SECONDS` gets."""
    channel = await layer.new_channel()
    await layer.group_add("live", channel)
    waiting = asyncio.ensure_future(layer.receive(channel))
    try:
        done, _ = await asyncio.wait({waiting}, timeout=IDLE_SECONDS)
        if not done:
            await layer.group_send("live", {"type": "changed", "sequence": 1})
        return await asyncio.wait_for(waiting, 5)
    finally:
        waiting.cancel()
        await layer.close_pools() if hasattr(layer, "close_pools") else await layer.flush()


async def all_three() -> list[Any]:
    layers = (get_channel_layer(), RedisChannelLayer(hosts=HOSTS), RedisChannelLayer(hosts=[settings.REDIS_URL]))
    return await asyncio.gather(*map(idle_then_message, layers), return_exceptions=True)


def test_an_idle_page_is_not_cut_off(redis_client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    ours, core_with_our_hosts, core_as_it_comes = asyncio.run(all_three())
    assert ours == core_with_our_hosts == {"type": "changed", "sequence": 1}
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert isinstance(core_as_it_comes, redis.TimeoutError), (
        f"the library alone waits long enough now ({core_as_it_comes!r}): socket_timeout=None may go"
    )
