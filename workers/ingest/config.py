"""The configuration file of one ingest run, read once and checked to the last field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

DECIMALS_MAX = 18

Symbol = Annotated[str, Meta(pattern=r"^[A-Z0-9]{4,20}$")]
Decimals = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
EntryId = Annotated[str, Meta(pattern=r"^[0-9]{1,15}-[0-9]{1,19}$")]
NonEmpty = Annotated[str, Meta(min_length=1, max_length=500)]


class ConfigError(Exception):
    """The configuration cannot be used; the message says which field and why, in one line."""


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A symbol with the decimals of its price (tick = 10^-n) and of its quantity (step = 10^-n)."""

    symbol: Symbol
    price_decimals: Decimals
    quantity_decimals: Decimals


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one ingest does. `first_entry_ids` holds, per shard, the greatest entry id that PostgreSQL knows."""

    epoch: Annotated[int, Meta(ge=1)]
    shard_count: Annotated[int, Meta(ge=1, le=1024)]
    token: Annotated[int, Meta(ge=1, le=2**53)]  # Lua compares tokens as doubles
    ws_url: NonEmpty
    rest_url: NonEmpty
    redis_url: NonEmpty
    drain_task: NonEmpty
    http_host: NonEmpty
    http_port: Annotated[int, Meta(ge=0, le=65_535)]
    symbols: Annotated[list[Instrument], Meta(min_length=1, max_length=3_000)]
    warmup_bars: Annotated[int, Meta(ge=0, le=999)]
    first_entry_ids: dict[str, EntryId]


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
    """What the types alone cannot say."""
    symbols = [instrument.symbol for instrument in config.symbols]
    if len(set(symbols)) != len(symbols):
        return "symbols: a symbol is named twice"
    for field, url, schemes in (
        ("ws_url", config.ws_url, ("ws", "wss")),
        ("rest_url", config.rest_url, ("http", "https")),
        ("redis_url", config.redis_url, ("redis", "rediss", "unix")),
    ):
        if not _is_url(url, schemes):
            return f"{field}: not a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    shards = {str(shard) for shard in range(config.shard_count)}
    unknown = sorted(set(config.first_entry_ids) - shards)
    return f"first_entry_ids: {unknown[0]!r} is no shard of {config.shard_count}" if unknown else None


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname or parts.scheme == "unix")
