"""What may be commanded: the names of the faults, their options, and a reader that refuses everything else.

All seconds are of this machine's clock, whatever the exchange's rate is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from workers.exchange.faults.private import PRIVATE_MODES
from workers.exchange.private.values import plain_decimal

ACK_MODES: Final = (
    "drop",
    "delay",
    "partial",
    "mixed",
    "no_blank",
    "ascii_colon",
    "unlisted",
    "error",
    "no_id",
)
REST_MODES: Final = ("status", "timeout", "html", "wrong_json", "broken_json", "reset", "error", "late")
UPGRADE_STATUSES: Final = (200, 301, 403, 429, 502, 503)
SECONDS_MAX: Final = 86_400.0
COUNT_MAX: Final = 1_000_000
_SELECTORS: Final = ("all", "random", "newest", "oldest")


class BadCommandError(ValueError):
    """A command that cannot be understood; the text says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """One fault: which connections, which symbols (none: any), and its options, all present."""

    do: str
    connections: tuple[int, ...] | str
    symbols: tuple[str, ...]
    options: Mapping[str, Any]


Reader = Callable[[object], Any]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadCommandError("must be a number")
    if not 0 <= value <= SECONDS_MAX:
        raise BadCommandError(f"must be from 0 to {SECONDS_MAX:,.0f}")
    return float(value)


def _whole(low: int, high: int) -> Reader:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadCommandError(f"must be a whole number from {low:,} to {high:,}")
        return value

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadCommandError("must be true or false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise BadCommandError("must be a text of at most 200 characters")
    return value


def _choice(*allowed: object) -> Reader:
    def read(value: object) -> object:
        if value not in allowed or isinstance(value, bool):
            raise BadCommandError(f"must be one of {', '.join(map(str, allowed))}")
        return value

    return read


def _value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > 1_000:
        raise BadCommandError("must be a text or a whole number")
    return value


def _decimal(value: object) -> str:
    if not isinstance(value, str) or plain_decimal(value) is None:
        raise BadCommandError("must be a decimal number written as text")
    return value


def _names(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadCommandError("must be a text or a list of texts")
    return tuple(names)


_COUNT: Final = _whole(1, COUNT_MAX)
_TIMES: Final[Mapping[str, tuple[Reader, Any]]] = {"times": (_COUNT, None), "seconds": (_number, None)}
# Beside the real frame, or instead of it; the next `frames` deals frames, or at once if `replace` is false.
_FRAME: Final[Mapping[str, tuple[Reader, Any]]] = {"replace": (_flag, False), "frames": (_COUNT, 1)}
_SPOILT: Final[Mapping[str, tuple[Reader, Any]]] = {**_FRAME, "replace": (_flag, True)}

# name -> option -> (reader, default)
CONNECTION_FAULTS: Final[Mapping[str, Mapping[str, tuple[Reader, Any]]]] = {
    "reset": {},
    "close": {"code": (_whole(1_000, 4_999), 1_000), "reason": (_text, "")},
    "half_open": {"seconds": (_number, None)},
    "silence": {"seconds": (_number, 5.0), "lose": (_flag, False)},
    "mute_market": {"seconds": (_number, None)},
    "slow_reader": {},
    "duplicate": {"frames": (_COUNT, 1)},
}
FRAME_FAULTS: Final[Mapping[str, Mapping[str, tuple[Reader, Any]]]] = {
    "cut_frame": {"then": (_choice("nothing", "close", "reset"), "nothing")},
    "truncate": _SPOILT,
    "garbage": _FRAME,
    "unknown_oneof": _FRAME,
    "unknown_channel": _FRAME,
    "text_in_binary": _FRAME,
    "binary_in_text": _FRAME,
    "bad_utf8": _FRAME,
    "deep": _FRAME,
    "huge_frame": {**_FRAME, "bytes": (_whole(1, 64 * 1024 * 1024), 10_000_000)},
    "empty_deals": _FRAME,
    "split": {"frames": (_COUNT, 1), "pieces": (_whole(2, 1_000), 4), "bytewise": (_flag, False)},
    "reorder": {"frames": (_COUNT, 1)},
    "late": {"trades": (_COUNT, 1), "seconds": (_number, 2.0)},
    "bad_values": {
        "frames": (_COUNT, 1),
        "field": (_choice("random", "price", "quantity", "side", "time", "id"), "random"),
        "value": (_value, "random"),
    },
}
SERVER_FAULTS: Final[Mapping[str, Mapping[str, tuple[Reader, Any]]]] = {
    "refuse": {"channels": (_names, ()), "seconds": (_number, None)},
    "ack": {"mode": (_choice(*ACK_MODES), "drop"), "seconds": (_number, 1.0), "times": (_COUNT, 1)},
    "http_status": {
        "status": (_choice(*UPGRADE_STATUSES), 502),
        "retry_after": (_number, None),
        "stall": (_number, 0.0),
        **_TIMES,
    },
    "rest": {
        "mode": (_choice(*REST_MODES), "status"),
        "status": (_whole(200, 599), 500),
        "retry_after": (_number, None),
        "path": (_text, ""),
        "method": (_choice("", "GET", "POST", "PUT", "DELETE"), ""),
        "after": (_flag, False),
        "code": (_value, 500),
        "stall": (_number, 1.0),
        **_TIMES,
    },
    "rest_lag": {"ms": (_whole(0, 3_600_000), 0)},
    "clock_skew": {"ms": (_whole(-86_400_000, 86_400_000), 0)},
    "swallow": {"trades": (_COUNT, 1), "rest": (_flag, True)},
    "private": {
        "mode": (_choice(*PRIVATE_MODES), "drop"),
        "channel": (_choice("", "orders", "deals", "account"), ""),
        "stall": (_number, 1.0),
        **_TIMES,
    },
    "expire_listen_keys": {},
    "pin": dict.fromkeys(("bid", "bid_quantity", "ask", "ask_quantity"), (_decimal, None)),
    "unpin": {},
    "symbol_rules": {
        "suspended": (_flag, False),
        "api_allowed": (_flag, True),
        "market_orders": (_flag, True),
        "side_type": (_whole(1, 4), 1),
        "notional_min": (_decimal, None),
        "price_band": (_decimal, None),
    },
    "list": {},
    "delist": {},
    "heal": {},
}
FAULTS: Final = {**CONNECTION_FAULTS, **FRAME_FAULTS, **SERVER_FAULTS}
_NEED_SYMBOLS: Final = {"list", "delist", "swallow", "pin", "unpin", "symbol_rules"}


def read_command(document: object) -> Command:
    """A command from its JSON; raises BadCommandError."""
    if not isinstance(document, Mapping):
        raise BadCommandError("a command is an object")
    values = dict(document)
    do = values.pop("do", None)
    if not isinstance(do, str) or do not in FAULTS:
        raise BadCommandError(f"do: {do!r} is none of {', '.join(FAULTS)}")
    connections = _connections(values.pop("c", "all"))
    symbols = _read("s", _names, values.pop("s", []))
    known = FAULTS[do]
    if unknown := set(values) - set(known):
        raise BadCommandError(f"{do} has no option {', '.join(sorted(map(str, unknown)))}")
    options = {
        name: _read(name, reader, values[name]) if name in values else default
        for name, (reader, default) in known.items()
    }
    if do in _NEED_SYMBOLS and not symbols:
        raise BadCommandError(f"{do} needs symbols (s)")
    return Command(do, connections, symbols, options)


def _connections(value: object) -> tuple[int, ...] | str:
    if isinstance(value, str) and value in _SELECTORS:
        return value
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise BadCommandError(f"c: must be a number, a list of numbers, or one of {', '.join(_SELECTORS)}")
    return tuple(numbers)


def _read(name: str, reader: Reader, value: object) -> Any:
    try:
        return reader(value)
    except BadCommandError as error:
        raise BadCommandError(f"{name}: {error}") from None
