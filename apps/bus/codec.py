"""The stream's packed form: one entry is a msgpack list of events, each `[tag, fields in declared order ...]`.

Positional fields keep an entry of a hundred trades small and fast; the tag and a strict check of every field make
a wrong entry an error instead of a wrong number.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from apps.engine.events import (
    Backfill,
    CoverageEnd,
    CoverageStart,
    Event,
    Loss,
    QuoteBlock,
    TradeBlock,
    WarmupBar,
    Watermark,
)

TAGS: Final[dict[int, type[Event]]] = {
    1: TradeBlock,
    2: QuoteBlock,
    3: Watermark,
    4: CoverageStart,
    5: Loss,
    6: WarmupBar,
    7: CoverageEnd,
    8: Backfill,
}
ENTRY_BYTES_MAX: Final = 8 * 1024 * 1024

_TAG_OF: Final = {kind: tag for tag, kind in TAGS.items()}
# All fields of an event in declared order, as a tuple that shares its columns.
_VALUES: Final = {kind: attrgetter(*(field.name for field in fields(kind))) for kind in TAGS.values()}
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder()
_COLUMNS: Final = {
    kind: tuple(f.name for f in fields(kind) if "list" in str(f.type) and f.name != "symbols")
    for kind in (TradeBlock, QuoteBlock, Backfill)
}


class CodecError(ValueError):
    """An entry is not what we write: wrong tag, wrong shape or wrong type."""


def _row_type(kind: type[Event]) -> Any:
    """The strict type of an event's fields as a tuple, for msgspec's own validation."""
    hints = get_type_hints(kind)
    return tuple[tuple(hints[field.name] for field in fields(kind))]  # type: ignore[misc]


_ROWS: Final = {tag: _row_type(kind) for tag, kind in TAGS.items()}


def encode(events: list[Event]) -> bytes:
    """Pack events into one stream entry."""
    return _encoder.encode([(_TAG_OF[type(event)], *_VALUES[type(event)](event)) for event in events])


def decode(payload: bytes) -> list[Event]:
    """Unpack one stream entry. Raises `CodecError` with the reason if it is not exactly what `encode` writes."""
    if len(payload) > ENTRY_BYTES_MAX:
        raise CodecError(f"entry of {len(payload)} bytes is larger than {ENTRY_BYTES_MAX}")
    try:
        rows = _decoder.decode(payload)
        if not isinstance(rows, list) or not rows:
            raise CodecError("entry is not a list of events")
        return [_event(row) for row in rows]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CodecError(f"entry is not readable: {error}") from error


def _event(row: Any) -> Event:
    if not isinstance(row, list) or not row or not isinstance(row[0], int) or row[0] not in TAGS:
        raise CodecError("unknown event tag")
    tag = row[0]
    event = TAGS[tag](*msgspec.convert(row[1:], _ROWS[tag]))
    if isinstance(event, TradeBlock | QuoteBlock | Backfill):
        lengths = {len(getattr(event, name)) for name in _COLUMNS[type(event)]}
        if len(lengths) != 1 or (0 in lengths and not isinstance(event, Backfill)):
            raise CodecError(f"columns of a {type(event).__name__} differ in length")
    return event
