"""What the ingest is asked to do, composed from the ledger, and what becomes of the ledger by its answers.

The ledger drives repair: whoever starts, takes over or comes back reads the whole wish, so nothing here remembers what
was asked. The drain turns a repaired minute to BACKFILLED when the repair arrives on the stream; here are the failures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import redis
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from apps.bus.orders import (
    DOUBTS_MAX,
    FILLED,
    PARTIAL,
    REPAIRS_MAX,
    Doubt,
    FeedOrders,
    Repair,
    RepairOutcome,
    WantedSymbol,
    drop_outcomes,
    read_outcomes,
    write_orders,
)
from apps.bus.streams import repair_outcomes_key
from apps.market.models import Bar, Coverage, EpochInstrument, Gap, KlineDoubt
from apps.staff import numbers, times

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (2, 5, 15, 60, 300, 600, 1800)
ATTEMPTS_MAX: Final = len(RETRY_SECONDS) + 1
DETAIL_MAX: Final = 200


def compose_orders(*, epoch: int, now_ms: int) -> FeedOrders:
    """The whole wish of an epoch as of `now_ms` (wall clock): what to follow, to repair and to doubt."""
    members = EpochInstrument.objects.filter(epoch_id=epoch, followed=True).order_by("instrument__symbol")
    fields = ("instrument__symbol", "instrument__price_decimals", "instrument__quantity_decimals")
    wanted = [WantedSymbol(*row) for row in members.values_list(*fields)]
    return FeedOrders(now_ms, wanted, _repairs(epoch, now_ms), _doubts(epoch))


def to_repair(epoch: int, now_ms: int) -> QuerySet[Coverage]:
    """UNPROVEN minutes that may be asked for now: closed, of a followed symbol, their next attempt due."""
    same = {name: OuterRef(name) for name in ("epoch_id", "instrument_id", "minute")}
    return Coverage.objects.filter(
        Exists(Bar.objects.filter(**same)),
        _followed(),
        epoch_id=epoch,
        status=Coverage.Status.UNPROVEN,
        next_attempt_at__lte=times.moment(now_ms),
    )


def _followed() -> Exists:
    same = {name: OuterRef(name) for name in ("epoch_id", "instrument_id")}
    return Exists(EpochInstrument.objects.filter(**same, followed=True))


def _repairs(epoch: int, now_ms: int) -> list[Repair]:
    """Newest first, because these minutes gate today's signals; symbols take turns, so that none waits for another."""
    turn = Window(RowNumber(), partition_by=[F("instrument_id")], order_by=[F("minute").desc()])
    rows = to_repair(epoch, now_ms).annotate(turn=turn).order_by("turn", "-minute", "instrument__symbol")
    values = rows.values_list("instrument__symbol", "minute", "attempts")[:REPAIRS_MAX]
    return [Repair(symbol, minute, attempts + 1) for symbol, minute, attempts in values]


def _doubts(epoch: int) -> list[Doubt]:
    """Doubts about followed symbols that the ledger has not taken in yet, oldest first."""
    rows = open_doubts(epoch).filter(_followed()).exclude(_settled()).select_related("instrument").order_by("pk")
    return [Doubt(row.instrument.symbol, row.minute, doubt_reason(row)) for row in rows[:DOUBTS_MAX]]


def open_doubts(epoch: int) -> QuerySet[KlineDoubt]:
    return KlineDoubt.objects.filter(epoch_id=epoch, settled_at__isnull=True)


def doubt_reason(doubt: KlineDoubt) -> str:
    """At most 100 characters: it becomes the reason of an UNPROVEN minute."""
    return f"volume {numbers.plain(doubt.ours)} here, {numbers.plain(doubt.theirs)} in klines"[:100]


def _settled() -> Q:
    """The ledger calls the minute anything but PROVEN, or late trades have made the difference up."""
    same = {name: OuterRef(name) for name in ("epoch_id", "instrument_id", "minute")}
    agrees = Bar.objects.filter(**same, volume=OuterRef("theirs"))
    return Q(Exists(Coverage.objects.filter(**same))) | Q(Exists(agrees))


def settle_doubts(*, epoch: int, now: datetime) -> int:
    """Close doubts that have become pointless or were taken in. Returns how many."""
    return open_doubts(epoch).filter(_settled()).update(settled_at=now)


def exchange_orders(*, epoch: int, client: redis.Redis, now_ms: int) -> FeedOrders:
    """One round with the ingest: store its answers, then write the wish anew. Returns what was written.

    Raises `redis.RedisError`. An answer is removed only after it was committed; one that comes twice changes nothing.
    """
    now = times.moment(now_ms)
    outcomes = _outcomes(client, epoch)
    store_outcomes(epoch=epoch, outcomes=outcomes.values(), now=now)
    drop_outcomes(client, epoch, list(outcomes))
    settle_doubts(epoch=epoch, now=now)
    orders = compose_orders(epoch=epoch, now_ms=now_ms)
    write_orders(client, epoch, orders)
    return orders


def _outcomes(client: redis.Redis, epoch: int) -> dict[str, RepairOutcome]:
    """Answers that cannot be read are thrown away with the others: what they were about is asked for again."""
    try:
        return read_outcomes(client, epoch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the answers to repairs cannot be read, they are asked for again: %s", error)
        client.delete(repair_outcomes_key(epoch))
        return {}


def store_outcomes(*, epoch: int, outcomes: Iterable[RepairOutcome], now: datetime) -> int:
    """Note answers in the ledger. Returns how many were new; an answer to another request than the last is none."""
    new = sum(_note(epoch, outcome, now) for outcome in outcomes)
    close_hopeless(epoch=epoch, now=now)
    return new


def _note(epoch: int, outcome: RepairOutcome, now: datetime) -> int:
    """One row in one statement, so that it never holds what the drain waits for.

    A filled minute keeps a next attempt too, should its repair be lost on the way to the ledger.
    """
    changed: dict[str, Any] = {"attempts": outcome.attempt, "next_attempt_at": next_attempt(outcome.attempt, now)}
    if outcome.status != FILLED:
        changed["detail"] = f"{outcome.status}: {outcome.detail}"[:DETAIL_MAX]
    rows = Coverage.objects.filter(
        epoch_id=epoch,
        instrument__symbol=outcome.symbol,
        minute=outcome.minute,
        status=Coverage.Status.UNPROVEN,
        attempts=outcome.attempt - 1,
    )
    return rows.update(**changed)


def next_attempt(attempts: int, now: datetime) -> datetime | None:
    """When a minute is asked for again after so many attempts; None: not any more.

    A minute that was opened again goes on counting, because the number names the request: it gets another round.
    """
    turn = attempts % ATTEMPTS_MAX
    return None if turn == 0 else now + timedelta(seconds=RETRY_SECONDS[turn - 1])


def close_hopeless(*, epoch: int, now: datetime) -> int:
    """Close gaps of which no minute will be asked for again: PARTIAL if REST told anything, else UNFILLABLE."""
    minutes = Coverage.objects.filter(gap=OuterRef("pk"))
    unproven = minutes.filter(status=Coverage.Status.UNPROVEN)
    hopeless = Gap.objects.filter(
        Exists(unproven),
        ~Exists(unproven.filter(next_attempt_at__isnull=False)),
        epoch_id=epoch,
        status=Gap.Status.OPEN,
    )
    told = Exists(minutes.filter(Q(status=Coverage.Status.BACKFILLED) | Q(detail__startswith=f"{PARTIAL}:")))
    closed = 0
    for gap in hopeless.annotate(told=told).select_related("instrument"):
        status = Gap.Status.PARTIAL if gap.told else Gap.Status.UNFILLABLE
        closed += Gap.objects.filter(pk=gap.pk, status=Gap.Status.OPEN).update(status=status, closed_at=now)
        log.warning("gap %d (%s, %s) stays %s", gap.pk, gap.instrument, gap.reason, status)
    return closed
