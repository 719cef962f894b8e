"""Exits of open positions, found on the stream in the drain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import redis

from apps.bus import codec, streams
from apps.engine.events import Event
from apps.engine.exits import ExitRule, ExitSearch
from apps.engine.fence import Fence
from apps.market.segments import read_segments
from apps.portfolio.models import Account, Position
from apps.signals.models import ExitWatch, Signal
from apps.signals.services.raising import exit_key, exit_row
from apps.signals.services.state import WarmShard, sessions_of

Batch = list[tuple[str, list[Event]]]


def refresh(warm: WarmShard) -> dict[int, Position] | None:
    """Positions of this shard that need an exit, by id; None if no portfolio has changed since the last look."""
    accounts = Account.objects.filter(session__in=[session.pk for session in sessions_of(warm)])
    epochs = dict(accounts.values_list("pk", "portfolio_epoch"))
    if epochs == warm.portfolio_epochs:
        return None
    warm.portfolio_epochs = epochs
    return load_positions(warm)


def load_positions(warm: WarmShard) -> dict[int, Position]:
    positions = Position.objects.filter(
        account__in=warm.portfolio_epochs,
        status=Position.Status.OPEN,
        instrument__in=[row.pk for row in warm.instruments.values()],
    ).select_related("account__session", "instrument")
    wanted = {exit_key(row.pk, row.exit_attempts): row for row in positions}
    raised = set(
        Signal.objects.filter(trigger_key__in=wanted, kind=Signal.Kind.EXIT).values_list("trigger_key", flat=True)
    )
    return {row.pk: row for key, row in wanted.items() if key not in raised}


def rule_of(position: Position) -> ExitRule:
    scale = Decimal(10) ** position.instrument.price_decimals
    return ExitRule(
        position_id=position.pk,
        symbol=position.instrument.symbol,
        opened_ts=position.opened_ts,
        stop=math.floor(position.stop_price * scale),
        target=math.ceil(position.target_price * scale),
        due_ts=position.due_ts,
    )


def history(client: redis.Redis, segments: Path, warm: WarmShard, start: str) -> Iterator[tuple[str, list[Event]]]:
    """Readable entries from `start` through what this shard has read: from the stream, else from the segments."""
    rows = streams.read(client, warm.epoch_id, warm.shard, after="0-0", count=1)
    lost = not rows or streams.entry_order(rows[0][0]) > streams.entry_order(start)
    source = (
        read_segments(segments, warm.epoch_id, warm.shard, start=start)
        if lost
        else streams.scan(client, warm.epoch_id, warm.shard, start=start)
    )
    last, fence = streams.entry_order(warm.position), Fence()
    for entry_id, payload in source:
        if streams.entry_order(entry_id) > last:
            return
        try:
            events = codec.decode(payload or b"")
        except codec.CodecError:
            continue  # set aside as a dead entry when it was drained
        yield entry_id, fence.admitted(events)


def admitted(batch: Batch, fence: Fence) -> Batch:
    """The batch without what a replaced ingest wrote: no price of it may close a position."""
    return [(entry_id, fence.admitted(events)) for entry_id, events in batch]


def search(
    *, client: redis.Redis, segments: Path, warm: WarmShard, batch: Batch, positions: dict[int, Position] | None
) -> list[Signal]:
    """Exit rows found in `batch`, and, for positions that have just become known, in what was read before it.

    Called before `warm.position` moves over the batch.
    """
    rows: list[Signal] = []
    if positions is not None:
        warm.searches = {pk: found for pk, found in warm.searches.items() if pk in positions}
        watched = dict(ExitWatch.objects.filter(position__in=positions).values_list("position", "scanned_to"))
        for pk, position in positions.items():
            if pk not in warm.searches:
                warm.searches[pk] = _begin(warm, position, watched.get(pk))
                if not watched.get(pk) and position.exit_attempts == 0:
                    past = history(client, segments, warm, position.trigger_entry)
                    rows += _feed(warm, pk, past)
    for pk in list(warm.searches):
        rows += _feed(warm, pk, batch)
    return rows


def _begin(warm: WarmShard, position: Position, scanned_to: str | None) -> ExitSearch:
    """A search that has seen nothing yet; one that goes on after a restart starts from the price of the open bar."""
    bar = warm.engine.symbols[position.instrument.symbol].builder.bar
    price = int(position.entry_price * 10**position.instrument.price_decimals)
    return ExitSearch(rule_of(position), last_price=bar.close if scanned_to and bar else price)


def _feed(warm: WarmShard, position_id: int, entries: Iterable[tuple[str, list[Event]]]) -> list[Signal]:
    """The exit row if the search ends in `entries`; the search is over then."""
    running = warm.searches[position_id]
    for entry_id, events in entries:
        raised = running.feed(entry_id, events)
        if raised is not None:
            del warm.searches[position_id]
            position = Position.objects.select_related("account__session").get(pk=position_id)
            if raised.quote is None:
                known = warm.engine.symbols[raised.symbol].quotes.at(raised.ts_event)
                raised = replace(raised, quote=known)
            return [exit_row(raised, warm.instruments[raised.symbol], position, position.exit_attempts)]
    return []


def save_watches(warm: WarmShard) -> None:
    """Remember how far each search has come: part of the checkpoint."""
    rows = [ExitWatch(position_id=pk, scanned_to=warm.position) for pk in warm.searches]
    ExitWatch.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["position"], update_fields=["scanned_to"], batch_size=500
    )
