"""The warm state of a shard: loading it from where correctness rests, saving it there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from apps.engine.bars import BarBuilder, EngineError
from apps.engine.events import Event
from apps.engine.exits import ExitSearch
from apps.engine.plans import Stage
from apps.engine.shard import ShardEngine, StrategySpec
from apps.engine.tape import PriceTape, QuoteTape
from apps.market.models import Instrument, ShardCursor
from apps.market.segments import Ahead, SegmentWriter, read_newest_segments
from apps.market.selectors import scales, shard_instruments
from apps.portfolio.models import TradingSession
from apps.signals.models import EngineState, EvaluatedMinute, SessionStrategy, StrategyVersion
from apps.signals.services.schedules import changes_of, newest_change

log = logging.getLogger(__name__)

MARKET_LAYOUT = "market-2"
RECENT_ENTRIES = 4_096


class EngineMismatch(Exception):
    """The strategy version was made for other engine sources than these. The process must not judge with them."""


@dataclass(slots=True)
class WarmShard:
    """One shard's engine in this process and the stream entry that it ended with."""

    epoch_id: int
    shard: int
    engine: ShardEngine
    instruments: dict[str, Instrument]
    bindings: list[SessionStrategy]
    position: str
    entries: int
    writer: SegmentWriter
    stored: Ahead  # what the segments have behind `position`
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_ENTRIES))  # ids read, the newest last
    searches: dict[int, ExitSearch] = field(default_factory=dict)
    portfolio_epochs: dict[int, int] = field(default_factory=dict)
    change: int = 0  # the newest change of the schedule that the engine knows
    evaluated: int | None = None  # the newest minute that is stored as evaluated


def session_bindings(epoch_id: int, engine_hash: str) -> list[SessionStrategy]:
    """The strategies that running sessions of this epoch judge with. Raises `EngineMismatch`."""
    bindings = list(
        SessionStrategy.objects.filter(session__epoch_id=epoch_id, session__ended_at__isnull=True)
        .select_related("version__strategy", "session")
        .order_by("id")
    )
    for binding in bindings:
        if binding.version.engine_hash != engine_hash:
            raise EngineMismatch(f"{binding.version} was made for other engine sources; start a new session")
    return bindings


def load(*, cursor: ShardCursor, segments: Path, engine_hash: str) -> WarmShard:
    """The state as of `replay_from`. A blob of another layout is refused: that instrument warms up again.

    What was read after it is read again from the segments: a stream that Redis lost or rolled back has not all of it.
    """
    instruments = shard_instruments(epoch_id=cursor.epoch_id, shard=cursor.shard)
    bindings = session_bindings(cursor.epoch_id, engine_hash)
    specs = specs_of(bindings)
    engine = ShardEngine(scales(instruments.values()), specs)
    stored = EngineState.objects.filter(cursor=cursor).select_related("instrument")
    for row in stored:
        symbol = engine.symbols.get(row.instrument.symbol)
        if symbol is not None:
            _restore(row, engine, specs)
    start = cursor.replay_from
    again = read_newest_segments(segments, cursor.epoch_id, cursor.shard, start=start)
    return WarmShard(
        epoch_id=cursor.epoch_id,
        shard=cursor.shard,
        engine=engine,
        instruments=instruments,
        bindings=bindings,
        position=cursor.replay_from,
        entries=cursor.replay_entries,
        writer=SegmentWriter(segments, cursor.epoch_id, cursor.shard),
        stored=Ahead(row for row in again if row[0] != start),
        change=newest_change(cursor.epoch_id),
        evaluated=EvaluatedMinute.objects.filter(cursor=cursor).values_list("minute", flat=True).first(),
    )


def specs_of(bindings: list[SessionStrategy]) -> list[StrategySpec]:
    """What the engine judges with: each version that sessions began with, and what it is followed by from which minute.

    Sessions that share a version on one feed share its schedule (a change is refused if there are two).
    """
    versions = {binding.version_id: binding.version for binding in bindings}
    stages: dict[int, list[Stage]] = {pk: [] for pk in versions}
    for change in changes_of({binding.session_id for binding in bindings}):
        stages[change.base_id].append(
            Stage(change.from_minute, change.version_id, change.version.parameters, change.enabled)
        )
    return [
        StrategySpec(pk, version.strategy.name, version.parameters, tuple(stages[pk]))
        for pk, version in versions.items()
    ]


def follow_schedule(warm: WarmShard) -> None:
    """Read the schedule again if it has grown. Called with the cursor locked, before anything is evaluated."""
    newest = newest_change(warm.epoch_id)
    if newest != warm.change:
        warm.engine.reschedule(specs_of(warm.bindings))
        warm.change = newest


def follow_new(warm: WarmShard, batch: Iterable[tuple[str, list[Event]]]) -> None:
    """Symbols come while the shard is warm: whoever is named here for the first time is looked up and followed."""
    if not any(warm.engine.unknown(event) for _, events in batch for event in events):
        return
    known = shard_instruments(epoch_id=warm.epoch_id, shard=warm.shard)
    for symbol, scale in scales(known.values()).items():
        if symbol not in warm.engine.symbols:
            log.info("shard %d follows %s from here on", warm.shard, symbol)
            warm.engine.follow(symbol, scale)
            warm.instruments[symbol] = known[symbol]


def _restore(row: EngineState, engine: ShardEngine, specs: list[StrategySpec]) -> None:
    name = row.instrument.symbol
    state = engine.symbols[name]
    if row.strategy_version_id is None:
        if row.layout != MARKET_LAYOUT:
            log.warning("state of %s has layout %s, not %s: it warms up again", name, row.layout, MARKET_LAYOUT)
            return
        restore_market(engine, name, bytes(row.blob))
        return
    for number, spec in enumerate(specs):
        if spec.version_id == row.strategy_version_id:
            if row.layout != spec.module.layout or len(row.blob) != spec.module.dtype.itemsize:
                log.warning(
                    "state of %s has layout %s, not %s: it warms up again", name, row.layout, spec.module.layout
                )
                return
            state.strategies[number] = np.frombuffer(bytes(row.blob), dtype=spec.module.dtype).copy()


def pack_market(engine: ShardEngine, symbol: str) -> bytes:
    """The market part of a symbol's state, and the shard's fence with it."""
    state = engine.symbols[symbol]
    return msgspec.msgpack.encode(
        [
            engine.fence.token, state.builder.row(), state.quotes.rows(), state.prices.rows(), state.evaluated,
            state.newest_trade,
        ]
    )  # fmt: skip


def restore_market(engine: ShardEngine, symbol: str, blob: bytes) -> None:
    """Raises `EngineError` if the blob is not what `pack_market` writes."""
    try:
        row: list[Any] = msgspec.msgpack.decode(blob)
        token, builder, quotes, prices, evaluated, newest = row
    except (msgspec.MsgspecError, ValueError) as error:
        raise EngineError(f"{symbol}: stored state is not readable") from error
    state = engine.symbols[symbol]
    engine.fence.token = max(engine.fence.token, token)
    state.builder = BarBuilder.from_row(symbol, builder)
    state.quotes = QuoteTape.from_rows(quotes)
    state.prices = PriceTape(prices)
    state.evaluated = evaluated
    state.newest_trade = newest


def save(*, cursor: ShardCursor, warm: WarmShard) -> None:
    """Write the state after `warm.position`: part of the transaction that moves `replay_from` there."""
    rows = []
    for symbol, state in warm.engine.symbols.items():
        common = {"cursor": cursor, "instrument": warm.instruments[symbol], "position": warm.position}
        blob = pack_market(warm.engine, symbol)
        rows.append(EngineState(**common, strategy_version=None, layout=MARKET_LAYOUT, blob=blob))
        for spec, strategy in zip(warm.engine.specs, state.strategies, strict=True):
            rows.append(
                EngineState(
                    **common,
                    strategy_version=StrategyVersion(pk=spec.version_id),
                    layout=spec.module.layout,
                    blob=strategy.tobytes(),
                )
            )
    EngineState.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["cursor", "instrument", "strategy_version"],
        update_fields=["layout", "position", "blob"],
        batch_size=500,
    )


def sessions_of(warm: WarmShard) -> list[TradingSession]:
    unique = {binding.session_id: binding.session for binding in warm.bindings}
    return list(unique.values())
