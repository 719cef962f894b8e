"""What the ingest says about itself, and how old the feed of a symbol is by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import msgspec
import redis

from apps.bus.streams import feed_state_key
from apps.engine import timeouts

STREAMING: Final = "STREAMING"
ROTATING: Final = "ROTATING"  # its successor is being tried; until the switch this one delivers
BLOCKED: Final = "BLOCKED"
DELIVERING: Final = frozenset({STREAMING, ROTATING})


class UnreadableReport(ValueError):
    """The ingest's report is there but is not what it should be."""


@dataclass(frozen=True, slots=True)
class FeedAge:
    """Wall ms since the connection that owns a symbol gave a sign of life; None with the reason if unknown."""

    age_ms: int | None
    words: str = ""


def symbol_of(channel: str) -> str:
    """The symbol at the end of a channel's name; book tickers and deals both end in it."""
    return channel.rpartition("@")[2]


class ConnectionReport(msgspec.Struct, frozen=True):
    """One connection to the exchange. Times are wall clock, ms; None: never."""

    name: str
    state: str
    last_frame_ms: int | None
    last_pong_ms: int | None
    symbols: list[str]
    reason: str | None = None
    subscriptions: int = 0
    refused: dict[str, str] = {}
    reconnects: int = 0


class Counts(msgspec.Struct, frozen=True):
    """Trades since this ingest started."""

    received: int = 0
    decoded: int = 0
    published: int = 0


class FeedReport(msgspec.Struct, frozen=True):
    """The JSON behind `feed_state:<epoch>`, as far as others need it."""

    written_ms: int
    connections: list[ConnectionReport]
    token: int = 0
    counts: Counts = Counts()
    event_time_ms: int | None = None
    last_trade_ms: int | None = None

    def age(self, symbol: str, now_ms: int) -> FeedAge:
        owners = [connection for connection in self.connections if symbol in connection.symbols]
        if not owners:
            return FeedAge(None, f"no connection owns {symbol}")
        streaming = [connection for connection in owners if connection.state in DELIVERING]
        if not streaming:
            return FeedAge(None, f"{owners[0].name} is {owners[0].state}")
        if any(symbol_of(channel) == symbol for owner in streaming for channel in owner.refused):
            return FeedAge(None, f"the exchange refuses {symbol}")
        signs = [ms for owner in streaming for ms in (owner.last_frame_ms, owner.last_pong_ms) if ms is not None]
        if not signs:
            return FeedAge(None, f"nothing was received from {streaming[0].name} yet")
        age_ms, silence_ms = now_ms - max(signs), now_ms - self.written_ms
        # A report that is old itself says nothing about what has happened since.
        return FeedAge(max(age_ms, silence_ms if silence_ms > timeouts.FEED_AGE_MAX_MS else 0, 0))


_decoder: Final = msgspec.json.Decoder(FeedReport)


def read_report(client: redis.Redis, *, epoch: int) -> FeedReport | None:
    """The newest report of the epoch's ingest, None if there is none.

    Raises `redis.RedisError` if Redis does not answer and `UnreadableReport` if what stands there is not a report.
    """
    payload = cast("bytes | None", client.get(feed_state_key(epoch)))
    if payload is None:
        return None
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise UnreadableReport(str(error)) from error


def feed_age(client: redis.Redis, *, epoch: int, symbol: str, now_ms: int) -> FeedAge:
    """The age of a symbol's feed. Whatever cannot be read is unknown, never young."""
    try:
        report = read_report(client, epoch=epoch)
    except redis.RedisError as error:
        return FeedAge(None, f"Redis does not answer ({type(error).__name__})")
    except UnreadableReport as error:
        return FeedAge(None, f"the ingest's report is not readable ({error})"[:150])
    if report is None:
        return FeedAge(None, "the ingest has not reported")
    return report.age(symbol, now_ms)
