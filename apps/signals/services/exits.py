"""Exits of open positions, found on the stream in the drain.

`begin` starts a search for every position that has become known, and takes it through what was read before; `follow`
takes all searches through a batch. Where a search stood is part of the checkpoint, with the highest price it has seen.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
from django.db.models import QuerySet

from apps.bus import codec, streams
from apps.engine.events import Event
from apps.engine.exit_kernel import Watch, trailing_parts, watch_from
from apps.engine.exits import ExitCall, ExitRule, ExitSearch
from apps.engine.fence import Fence
from apps.engine.model import Quote, RaisedExit
from apps.engine.shard import StrategySpec
from apps.engine.tape import QuoteTape
from apps.engine.ticks import NOBODY, Suspects
from apps.market.models import Instrument
from apps.market.segments import read_newest_segments
from apps.outbox.reads import Read
from apps.portfolio.models import Account, Position
from apps.signals.models import ExitWatch, Signal, StrategyCall
from apps.signals.services.raising import exit_key, exit_row, scale_of
from apps.signals.services.state import WarmShard, sessions_of

log = logging.getLogger(__name__)

Batch = list[tuple[str, list[Event]]]
Calls = Mapping[str, list[ExitCall]]  # stream entry -> the calls that its trades gave


def _accounts(epoch_id: int) -> QuerySet[Account, tuple[Any, ...]]:
    accounts = Account.objects.filter(session__epoch_id=epoch_id)
    return accounts.values_list("pk", "portfolio_epoch", "session_id", "session__ended_at")


_ACCOUNTS = Read(_accounts, int)


def refresh(warm: WarmShard) -> dict[int, Position] | None:
    """Positions of this shard that need an exit, by id; None if no portfolio has changed since the last look."""
    judged = {session.pk for session in sessions_of(warm)}
    rows = [row for row in _ACCOUNTS.rows(warm.epoch_id) if row[2] in judged]
    ended = {session_id for _, _, session_id, ended_at in rows if ended_at is not None}
    if ended:  # they raise nothing any more; what their strategies remember goes on unused until the next start
        warm.bindings = [binding for binding in warm.bindings if binding.session_id not in ended]
    epochs = {pk: epoch for pk, epoch, session_id, _ in rows if session_id not in ended}
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
        trailing=trailing_parts(position.trailing_stop_pct),
        retry_ts=position.retry_ts,
        version_id=position.strategy_version_id,
        on_signal=position.exit_on_signal,
    )


def history(client: redis.Redis, segments: Path, warm: WarmShard, start: str) -> Iterator[tuple[str, list[Event]]]:
    """Readable entries from `start` through what this shard has read: from the stream if it has them all, else from the
    segments."""
    last, fence = streams.entry_order(warm.position), Fence()
    source: Iterable[tuple[str, bytes | None]] | None = _whole(client, warm, start)
    if source is None:
        source = read_newest_segments(segments, warm.epoch_id, warm.shard, start=start)
    for entry_id, payload in source:
        if streams.entry_order(entry_id) > last:
            return
        try:
            events = codec.decode(payload or b"")
        except codec.CodecError:
            continue  # set aside as a dead entry when it was drained
        yield entry_id, fence.admitted(events)


def _whole(client: redis.Redis, warm: WarmShard, start: str) -> list[tuple[str, bytes | None]] | None:
    """The stream from `start` on, or None if entries that were read are missing from it: trimmed, lost, rolled back."""
    first = streams.read(client, warm.epoch_id, warm.shard, after=streams.START, count=1)
    begin = streams.entry_order(start)
    if not first or streams.entry_order(first[0][0]) > begin:
        return None
    rows = list(streams.scan(client, warm.epoch_id, warm.shard, start=start))
    there = {entry_id for entry_id, _ in rows}
    return rows if all(one in there for one in warm.recent if streams.entry_order(one) >= begin) else None


def admitted(batch: Batch, fence: Fence) -> Batch:
    """The batch without what a replaced ingest wrote: no price of it may close a position."""
    return [(entry_id, fence.admitted(events)) for entry_id, events in batch]


# --- searches ---------------------------------------------------------------------------------------------------------


def begin(
    *, client: redis.Redis, segments: Path, warm: WarmShard, positions: dict[int, Position] | None
) -> list[Signal]:
    """Search for exits of exactly these positions from now on (None: as before). Returns exits found in the past.

    Called before a batch is applied: what the engine remembers must end where `warm.position` says.
    """
    if positions is None:
        return []
    warm.searches = {pk: found for pk, found in warm.searches.items() if pk in positions}
    watches = {row.position_id: row for row in ExitWatch.objects.filter(position__in=positions)}
    rows: list[Signal] = []
    for pk, position in positions.items():
        if pk in warm.searches:
            warm.searches[pk].rule = rule_of(position)  # a further fill of its entry moves its stop
        elif pk in watches and watches[pk].scanned_to == warm.position:
            warm.searches[pk] = _resumed(warm, position, watches[pk])
        else:
            rows += _from_the_past(client, segments, warm, position, watches.get(pk))
    return rows


def _search(position: Position, watch: ExitWatch | None) -> ExitSearch:
    price = int(position.entry_price * 10**position.instrument.price_decimals)
    known = price if watch is None or watch.last_price is None else watch.last_price
    return ExitSearch(rule_of(position), last_price=known, watch=_seen(watch, known) if watch else watch_from(price))


def _seen(row: ExitWatch, last_price: int) -> Watch:
    """A row from before prices were confirmed knows only the last one: that is believed."""
    suspects = Suspects(*row.suspects) if row.suspects else NOBODY
    return Watch(row.high, row.confirmed or last_price, suspects, row.called_ts)


def _resumed(warm: WarmShard, position: Position, watch: ExitWatch) -> ExitSearch:
    """After a restart: as it stood at the checkpoint that the shard, too, goes on from."""
    search, state = _search(position, watch), warm.engine.symbols[position.instrument.symbol]
    search.quotes = QuoteTape.from_rows(state.quotes.rows())
    search.follow_on(state.builder.token, state.builder.ordinal)
    return search


def _from_the_past(
    client: redis.Redis, segments: Path, warm: WarmShard, position: Position, watch: ExitWatch | None
) -> list[Signal]:
    """A fill that becomes known late is searched from its trigger on, one whose exit failed from its last watch on."""
    search = _search(position, watch)
    warm.searches[position.pk] = search
    past = history(client, segments, warm, watch.scanned_to if watch else position.trigger_entry)
    if watch:
        scanned = streams.entry_order(watch.scanned_to)
        past = (row for row in past if streams.entry_order(row[0]) > scanned)
    else:
        known = _quote_at_entry(position)
        if known is not None:
            search.quotes.add(known)
    found = _feed(warm, position.pk, past, _stored_calls(warm, position))
    if not search.quotes.rows():
        search.quotes = QuoteTape.from_rows(warm.engine.symbols[search.rule.symbol].quotes.rows())
    return found


def _quote_at_entry(position: Position) -> Quote | None:
    """The quote in force when the position's entry was triggered: later ones stand on the stream from there on."""
    signal = (
        Signal.objects.filter(
            session=position.account.session_id, book=position.account.book, instrument=position.instrument,
            kind=Signal.Kind.ENTRY, entry_id=position.trigger_entry, ts_event__lte=position.opened_ts,
            quote_ts__isnull=False,
        )
        .order_by("-ts_event", "-pk")
        .first()
    )  # fmt: skip
    if signal is None or signal.quote_ts is None:
        return None
    prices, sizes = 10**position.instrument.price_decimals, 10**position.instrument.quantity_decimals
    bid, ask = int((signal.bid or 0) * prices), int((signal.ask or 0) * prices)
    return Quote(
        signal.quote_ts, bid, int((signal.bid_quantity or 0) * sizes), ask, int((signal.ask_quantity or 0) * sizes)
    )


def follow(warm: WarmShard, batch: Batch, calls: Iterable[StrategyCall]) -> list[Signal]:
    """Exit rows that the searches find in a batch, with the calls that it gave."""
    by_base: dict[tuple[str, int], dict[str, list[ExitCall]]] = defaultdict(lambda: defaultdict(list))
    for row in calls:
        place = (row.instrument.symbol, row.base_id)
        by_base[place][row.entry_id].append(ExitCall(row.ts_event, row.trade_id))
    rows: list[Signal] = []
    for pk in list(warm.searches):
        rule = warm.searches[pk].rule
        own: dict[str, list[ExitCall]] = defaultdict(list)
        for base in bases_of(warm.engine.specs, rule.version_id):
            for entry_id, found in by_base.get((rule.symbol, base), {}).items():
                own[entry_id] += found
        rows += _feed(warm, pk, batch, own)
    return rows


def bases_of(specs: Iterable[StrategySpec], version_id: int) -> set[int]:
    """The versions with which sessions began that this one was, or came to be, in force for."""
    return {
        spec.version_id
        for spec in specs
        if version_id in {spec.version_id, *(stage.version_id for stage in spec.schedule)}
    }


def _stored_calls(warm: WarmShard, position: Position) -> Calls:
    """What its strategy has said since the position was opened."""
    found: dict[str, list[ExitCall]] = defaultdict(list)
    rows = StrategyCall.objects.filter(
        epoch_id=warm.epoch_id,
        base__in=bases_of(warm.engine.specs, position.strategy_version_id),
        instrument=position.instrument,
        ts_event__gt=position.opened_ts,
    )
    for entry_id, ts_event, trade_id in rows.order_by("pk").values_list("entry_id", "ts_event", "trade_id"):
        found[entry_id].append(ExitCall(ts_event, trade_id))
    return found


def _feed(warm: WarmShard, position_id: int, entries: Iterable[tuple[str, list[Event]]], calls: Calls) -> list[Signal]:
    """The exit row if the search ends in `entries`; the search is over then."""
    running = warm.searches[position_id]
    for entry_id, events in entries:
        raised = running.feed(entry_id, events, calls.get(entry_id, ()))
        if raised is not None:
            del warm.searches[position_id]
            position = Position.objects.select_related("account__session").get(pk=position_id)
            if raised.quote is None:
                known = warm.engine.symbols[raised.symbol].quotes.at(raised.ts_event)
                raised = replace(raised, quote=known)
            if raised.jumped_from is not None:
                _tell_of_jump(raised, warm.instruments[raised.symbol])
            return [exit_row(raised, warm.instruments[raised.symbol], position, position.exit_attempts)]
    return []


def _tell_of_jump(raised: RaisedExit, instrument: Instrument) -> None:
    """A person should look: the price that the exit acts on is a tenth or more away from all that was traded before."""
    price = scale_of(instrument).price
    log.warning(
        "%s of position %d: the price of %s jumped from %s to %s, and the trades confirm it",
        raised.reason, raised.position_id, raised.symbol, price(raised.jumped_from or 0), price(raised.confirmed),
    )  # fmt: skip


def save_watches(warm: WarmShard) -> None:
    """Remember how far each search has come and what it has seen: part of the checkpoint."""
    rows = [
        ExitWatch(
            position_id=pk,
            scanned_to=warm.position,
            high=search.watch.high,
            last_price=search.last_price,
            confirmed=search.watch.confirmed,
            suspects=list(search.watch.suspects) if search.watch.suspects.run else [],
            called_ts=search.watch.called_ts,
        )
        for pk, search in warm.searches.items()
    ]
    ExitWatch.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["position"],
        update_fields=["scanned_to", "high", "last_price", "confirmed", "suspects", "called_ts"],
        batch_size=500,
    )
