"""How old the feed of a symbol is, by what the ingest last wrote about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import msgspec
import redis

from apps.bus.streams import feed_state_key
from apps.engine import timeouts

STREAMING: Final = "STREAMING"


class _Connection(msgspec.Struct, frozen=True):
    name: str
    state: str
    last_frame_ms: int | None
    last_pong_ms: int | None
    symbols: list[str]


class _FeedState(msgspec.Struct, frozen=True):
    """The fields read here; the ingest writes more."""

    written_ms: int
    connections: list[_Connection]


_decoder: Final = msgspec.json.Decoder(_FeedState)


@dataclass(frozen=True, slots=True)
class FeedAge:
    """Wall ms since the connection that owns a symbol gave a sign of life; None with the reason if unknown."""

    age_ms: int | None
    words: str = ""


def feed_age(client: redis.Redis, *, epoch: int, symbol: str, now_ms: int) -> FeedAge:
    """The age of a symbol's feed. Whatever cannot be read is unknown, never young."""
    try:
        payload = cast("bytes | None", client.get(feed_state_key(epoch)))
    except redis.RedisError as error:
        return FeedAge(None, f"Redis does not answer ({type(error).__name__})")
    if payload is None:
        return FeedAge(None, "the ingest has not reported")
    try:
        state = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        return FeedAge(None, f"the ingest's report is not readable ({error})"[:150])
    return _age_of(state, symbol, now_ms)


def _age_of(state: _FeedState, symbol: str, now_ms: int) -> FeedAge:
    owners = [connection for connection in state.connections if symbol in connection.symbols]
    if not owners:
        return FeedAge(None, f"no connection owns {symbol}")
    streaming = [connection for connection in owners if connection.state == STREAMING]
    if not streaming:
        return FeedAge(None, f"{owners[0].name} is {owners[0].state}")
    signs = [ms for owner in streaming for ms in (owner.last_frame_ms, owner.last_pong_ms) if ms is not None]
    if not signs:
        return FeedAge(None, f"nothing was received from {streaming[0].name} yet")
    age_ms, silence_ms = now_ms - max(signs), now_ms - state.written_ms
    # A report that is old itself says nothing about what has happened since.
    return FeedAge(max(age_ms, silence_ms if silence_ms > timeouts.FEED_AGE_MAX_MS else 0, 0))
