"""What the stream still holds from before: the last entry ids, and the trade ids not to publish twice."""

from __future__ import annotations

from typing import Any, Final, cast

import redis

from apps.bus import codec, streams
from apps.engine.events import TradeBlock
from workers.ingest import log
from workers.ingest.config import Config
from workers.ingest.recent import IDS_MIN
from workers.ingest.symbols import SymbolState

TAIL_ENTRIES: Final = 2_000
_PAGE: Final = 100


def last_ids(client: redis.Redis, config: Config) -> dict[int, str]:
    """Per shard the greatest entry id that Redis or PostgreSQL knows. Raises `RedisError`."""
    found = {}
    for shard in range(config.shard_count):
        known = (streams.last_id(client, config.epoch, shard), config.first_entry_ids.get(str(shard), streams.START))
        found[shard] = max(known, key=streams.entry_order)
    return found


def refill(client: redis.Redis, config: Config, states: dict[str, SymbolState]) -> int:
    """Remember the trade ids at the tail of each shard. Returns how many. Raises `RedisError`."""
    count = 0
    for shard in range(config.shard_count):
        blocks = _newest_blocks(client, config.epoch, shard, IDS_MIN // config.shard_count)
        count += sum(remember(block, states) for block in reversed(blocks))
    return count


def _newest_blocks(client: redis.Redis, epoch: int, shard: int, trades_max: int) -> list[TradeBlock]:
    """The trades at the end of a shard, newest first, no more than are remembered of it anyway."""
    blocks: list[TradeBlock] = []
    trades = 0
    for payload in _tail(client, epoch, shard):
        try:
            events = codec.decode(payload)
        except codec.CodecError as error:
            log.event("unreadable_entry", shard=shard, error=str(error))
            continue
        for event in reversed(events):
            if isinstance(event, TradeBlock):
                blocks.append(event)
                trades += len(event.trade_id)
        if trades >= trades_max:
            break
    return blocks


def _tail(client: redis.Redis, epoch: int, shard: int) -> list[bytes]:
    """The payloads of the shard's last entries, newest first."""
    payloads: list[bytes] = []
    through = "+"
    while len(payloads) < TAIL_ENTRIES:
        rows = cast("list[Any]", client.xrevrange(streams.stream_key(epoch, shard), max=through, count=_PAGE))
        payloads += [fields[streams.FIELD] for _, fields in rows if streams.FIELD in fields]
        if len(rows) < _PAGE:
            break
        through = f"({rows[-1][0].decode()}"
    return payloads


def remember(block: TradeBlock, states: dict[str, SymbolState]) -> int:
    """What the stream tells of one symbol; returns how many trade ids were new."""
    state = states.get(block.symbol)
    if state is None:
        return 0
    if "" in block.trade_id:
        state.plain_ms = max(state.plain_ms, *block.ts_event)
    return sum(state.recent.add(trade_id) for trade_id in block.trade_id if trade_id)
