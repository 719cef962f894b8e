"""What a backtest is asked: read from words, written as JSON. Pure: nothing here opens a file or a database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

CAPITAL_MIN: Final = Decimal(10)
CAPITAL_MAX: Final = Decimal(1_000_000_000)
CAPITAL_DECIMALS: Final = 8
SEED_MAX: Final = 2**63 - 1
SYMBOLS_MAX: Final = 2_000
FILES_MAX: Final = 1_000
DEFAULT_CAPITAL: Final = "100000"

_SYMBOL: Final = re.compile(r"[A-Z0-9]{4,20}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_INSTANT: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?))?Z?")


class BacktestRefused(ValueError):
    """What was asked cannot be done as asked; one line that says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Request:
    """One backtest. Times are event times in ms, `last_ms` excluded; None where the data decide.

    `trades` are recorded files; without any the archive is read (`archive` names which, if several would do).
    `version` None: the strategy's own defaults.
    `changes` are the parameters that were set, as they were written; they are judged by the strategy's own bounds.
    """

    strategy: str
    version: int | None = None
    trades: tuple[str, ...] = ()
    first_ms: int | None = None
    last_ms: int | None = None
    symbols: tuple[str, ...] = ()
    changes: Mapping[str, str] = field(default_factory=dict)
    capital: Decimal = Decimal(DEFAULT_CAPITAL)
    seed: int = 0
    archive: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "version": self.version,
            "trades": list(self.trades),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "symbols": list(self.symbols),
            "set": dict(self.changes),
            "capital": format(self.capital, "f"),
            "seed": self.seed,
            "archive": self.archive,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Request:
        return cls(
            strategy=stored["strategy"],
            version=stored["version"],
            trades=tuple(stored["trades"]),
            first_ms=stored["first_ms"],
            last_ms=stored["last_ms"],
            symbols=tuple(stored["symbols"]),
            changes=dict(stored["set"]),
            capital=Decimal(stored["capital"]),
            seed=stored["seed"],
            archive=stored.get("archive", ""),
        )


def parse_request(
    *,
    strategy: str,
    trades: Sequence[str] = (),
    first: str = "",
    last: str = "",
    symbols: str = "",
    assignments: Sequence[str] = (),
    capital: str = DEFAULT_CAPITAL,
    seed: str = "0",
    archive: str = "",
) -> Request:
    """A request from words as people write them. Raises `BacktestRefused`."""
    name, version = parse_strategy(strategy)
    first_ms, last_ms = parse_span(first, last)
    if not trades and (first_ms is None or last_ms is None or not symbols.strip()):
        raise BacktestRefused("name recorded files (--trades PATH), or a part of the archive (--from, --to, --symbols)")
    if len(trades) > FILES_MAX:
        raise BacktestRefused(f"{len(trades)} files are too many at once: at most {FILES_MAX}")
    return Request(
        strategy=name,
        version=version,
        trades=tuple(trades),
        first_ms=first_ms,
        last_ms=last_ms,
        symbols=parse_symbols(symbols),
        changes=parse_assignments(assignments),
        capital=parse_capital(capital),
        seed=parse_seed(seed),
        archive=archive.strip(),
    )


def parse_strategy(words: str) -> tuple[str, int | None]:
    """`momentum` or `momentum:3`."""
    name, colon, version = words.strip().partition(":")
    if not _NAME.fullmatch(name):
        raise BacktestRefused(f"{words!r} is no strategy: write its name, such as momentum or momentum:3")
    if not colon:
        return name, None
    if not _VERSION.fullmatch(version):
        raise BacktestRefused(f"{words!r}: {version!r} is no version, write a number such as {name}:3")
    return name, int(version)


def parse_span(first: str, last: str) -> tuple[int | None, int | None]:
    """Event times in ms. A day without a time of day begins at its midnight, and as the end it is included."""
    first_ms = parse_instant(first, end=False) if first.strip() else None
    last_ms = parse_instant(last, end=True) if last.strip() else None
    if first_ms is not None and last_ms is not None and first_ms >= last_ms:
        raise BacktestRefused(f"from {first.strip()} to {last.strip()} is no time at all: from must lie before to")
    return first_ms, last_ms


def parse_instant(words: str, *, end: bool) -> int:
    """`2026-11-21`, `2026-11-21T06:40` or `2026-11-21T06:40:30`, in UTC. Raises `BacktestRefused`."""
    found = _INSTANT.fullmatch(words.strip())
    try:
        if found is None:
            raise ValueError(words)
        moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}").replace(tzinfo=UTC)
        if end and not found[2]:
            moment += timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise BacktestRefused(f"{words!r} is no day such as 2026-11-21 and no time such as 2026-11-21T06:40") from error
    if moment.year < 1971:
        raise BacktestRefused(f"{words!r} lies before there was anything to trade")
    return int(moment.timestamp()) * 1000


def shown_instant(ms: int | None) -> str:
    """As `parse_instant` reads it; empty for None."""
    return "" if ms is None else f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_day(words: str) -> date:
    """`2026-11-21`. Raises `BacktestRefused`."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", words.strip()):
            raise ValueError(words)
        return date.fromisoformat(words.strip())
    except ValueError as error:
        raise BacktestRefused(f"{words!r} is no day such as 2026-11-21") from error


def parse_symbols(words: str) -> tuple[str, ...]:
    """Symbols apart by commas or blanks, in the order of the alphabet. None at all means: all that there are."""
    found = [symbol for symbol in re.split(r"[\s,]+", words.strip()) if symbol]
    for symbol in found:
        if not _SYMBOL.fullmatch(symbol):
            hint = f": write {symbol.upper()}" if _SYMBOL.fullmatch(symbol.upper()) else ""
            raise BacktestRefused(f"{symbol!r} is not a symbol such as BTCUSDT{hint}")
        if found.count(symbol) > 1:
            raise BacktestRefused(f"{symbol} is named twice")
    if len(found) > SYMBOLS_MAX:
        raise BacktestRefused(f"{len(found)} symbols are too many at once: at most {SYMBOLS_MAX}")
    return tuple(sorted(found))


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """`name=value` each; the values stay as written."""
    changes: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value or not _NAME.fullmatch(name):
            raise BacktestRefused(f"{word!r} sets nothing: write name=value, such as threshold_pct=1.5")
        if name in changes:
            raise BacktestRefused(f"{name} is set twice")
        changes[name] = value
    return changes


def parse_capital(words: str) -> Decimal:
    """The money to begin with, in units of the quote currency."""
    try:
        capital = Decimal(words.strip())
    except InvalidOperation as error:
        raise BacktestRefused(f"capital {words!r} is not an amount such as {DEFAULT_CAPITAL}") from error
    if not capital.is_finite() or not CAPITAL_MIN <= capital <= CAPITAL_MAX:
        raise BacktestRefused(f"capital {words} is not from {CAPITAL_MIN} to {CAPITAL_MAX} units of the quote currency")
    if capital != round(capital, CAPITAL_DECIMALS):
        raise BacktestRefused(f"capital {words} has more than {CAPITAL_DECIMALS} decimals")
    return capital


def parse_seed(words: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", words.strip()) or int(words) > SEED_MAX:
        raise BacktestRefused(f"seed {words!r} is not a whole number from 0 to {SEED_MAX}")
    return int(words)
