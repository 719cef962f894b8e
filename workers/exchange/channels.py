"""The channels the local exchange serves; everything else is refused as the real one refuses it."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, Literal, NamedTuple

Kind = Literal["bookTicker", "deals", "private"]

PRIVATE_CHANNELS: Final = tuple(f"spot@private.{topic}.v3.api.pb" for topic in ("account", "deals", "orders"))
_PATTERN: Final = re.compile(r"(spot@public\.aggre\.(deals|bookTicker)\.v3\.api\.pb@(?:100|10)ms)@([A-Z0-9]{4,20})")


class Channel(NamedTuple):
    """Sorts by symbol, and a symbol's quotes before its trades: the order of sending."""

    symbol: str
    kind: Kind
    event_type: str  # the text without the symbol
    text: str


def parse_channel(text: str, symbols: Container[str]) -> Channel | None:
    """The channel, or None if it is malformed, not offered, or names a symbol that is not listed."""
    match = _PATTERN.fullmatch(text)
    if match is None or match[3] not in symbols:
        return None
    kind: Kind = "deals" if match[2] == "deals" else "bookTicker"
    return Channel(match[3], kind, match[1], text)


def parse_private_channel(text: str, symbols: Container[str]) -> Channel | None:
    """What a socket opened with a listen key may subscribe to: its account's channels beside the public ones."""
    if text in PRIVATE_CHANNELS:
        return Channel("", "private", text, text)
    return parse_channel(text, symbols)
