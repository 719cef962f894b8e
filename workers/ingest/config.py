"""The configuration file of one ingest run, read once and checked to the last field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from apps.engine import timeouts

DECIMALS_MAX: Final = 18
SYMBOLS_MAX: Final = 3_000
_SYMBOL: Final = re.compile(r"[A-Z0-9]{4,20}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+")
_SHOWN_MAX: Final = 40  # characters of a wrong value in a message

Decimals = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
EntryId = Annotated[str, Meta(pattern=r"^[0-9]{1,15}-[0-9]{1,19}$")]
NonEmpty = Annotated[str, Meta(min_length=1, max_length=500)]


class ConfigError(Exception):
    """The configuration cannot be used; the message says which field and why, in one line."""


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A symbol with the decimals of its price (tick = 10^-n) and of its quantity (step = 10^-n)."""

    symbol: str
    price_decimals: Decimals
    quantity_decimals: Decimals


class LeaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the lease of the epoch lies, and the name under which this process holds it: host and process.

    A `standby` that starts together with another ingest leaves a free lease to that one.
    """

    database_url: NonEmpty
    holder: Annotated[str, Meta(min_length=1, max_length=100)]
    standby: bool = False


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one ingest does. `first_entry_ids` holds, per shard, the greatest entry id that PostgreSQL knows.

    Either `lease` says where to wait for the right to write, or a fixed `token` is that right (tests and benches).
    `clock_rate` seconds of the ingest's clock pass per second of the machine. `rotation_seconds` is the age at which a
    connection gets its successor, less for tests.
    """

    epoch: Annotated[int, Meta(ge=1)]
    shard_count: Annotated[int, Meta(ge=1, le=1024)]
    token: Annotated[int, Meta(ge=1, le=2**53)] | None = None  # Lua compares tokens as doubles
    lease: LeaseConfig | None = None
    ws_url: NonEmpty
    rest_url: NonEmpty
    redis_url: NonEmpty
    drain_task: NonEmpty
    http_host: NonEmpty
    http_port: Annotated[int, Meta(ge=0, le=65_535)]
    symbols: list[Instrument]
    warmup_bars: Annotated[int, Meta(ge=0, le=999)]
    first_entry_ids: dict[str, EntryId]
    clock_rate: Annotated[float, Meta(gt=0, le=10_000)] = 1.0
    rotation_seconds: Annotated[float, Meta(gt=0, le=timeouts.FEED_ROTATION_SECONDS)] = timeouts.FEED_ROTATION_SECONDS


def load(path: Path) -> Config:
    """The checked configuration; raises `ConfigError`."""
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return parse(payload, str(path))


def parse(payload: bytes, name: str) -> Config:
    """As `load`, from the bytes of the file `name`."""
    try:
        config = msgspec.json.decode(payload, type=Config)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{name}: {error}") from error
    problem = _problem(config)
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return config


def _problem(config: Config) -> str | None:
    """What the types alone cannot say, and what to do about it."""
    return _symbols_problem(config.symbols) or _urls_problem(config) or _other_problem(config)


def _symbols_problem(instruments: list[Instrument]) -> str | None:
    if not 1 <= len(instruments) <= SYMBOLS_MAX:
        return f"symbols: {len(instruments)} are named, one ingest follows 1 to {SYMBOLS_MAX}: name as many as that"
    seen: set[str] = set()
    for instrument in instruments:
        problem = symbol_problem(instrument.symbol)
        if problem:
            return f"symbols: {problem}"
        if instrument.symbol in seen:
            return f"symbols: {instrument.symbol} is named twice: remove one"
        seen.add(instrument.symbol)
    return None


def symbol_problem(symbol: str) -> str | None:
    """Why this cannot be a symbol of the exchange, and what to write instead; None if it can."""
    if _SYMBOL.fullmatch(symbol):
        return None
    upper = symbol.upper()
    hint = f"write {upper}" if _SYMBOL.fullmatch(upper) else "use 4 to 20 upper-case letters and digits"
    return f"{symbol[:_SHOWN_MAX]!r} is not a symbol of the exchange: {hint}"


def _urls_problem(config: Config) -> str | None:
    """A URL may hold a password, so a message never shows it."""
    urls = [
        ("ws_url", config.ws_url, ("ws", "wss")),
        ("rest_url", config.rest_url, ("http", "https")),
        ("redis_url", config.redis_url, ("redis", "rediss", "unix")),
    ]
    if config.lease is not None:
        urls.append(("lease.database_url", config.lease.database_url, ("postgresql", "postgres")))
    for field, url, schemes in urls:
        if not _is_url(url, schemes):
            forms = " or ".join(f"{scheme}://HOST" for scheme in schemes)
            return f"{field}: not an address of the form {forms}: correct it"
    return None


def _other_problem(config: Config) -> str | None:
    if (config.token is None) == (config.lease is None):
        return "token, lease: give one of the two: a lease to wait for, or a fixed token"
    shards = {str(shard) for shard in range(config.shard_count)}
    unknown = sorted(set(config.first_entry_ids) - shards)
    return f"first_entry_ids: {unknown[0]!r} is no shard of {config.shard_count}" if unknown else None


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in schemes or port == 0 or any(letter <= " " for letter in url):
        return False
    return parts.scheme == "unix" or bool(parts.hostname and _HOST.fullmatch(parts.hostname))
