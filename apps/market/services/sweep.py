"""The comparison with klines: PROVEN is provisional until the exchange's own sum of the minute agrees.

A difference is a doubt. It becomes UNPROVEN through the stream, at a place of its own there, so that signals stay a
function of the stream; until then the steward tells the ingest of it again and again (apps.market.services.orders).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef

from apps.market.models import Bar, Coverage, EpochInstrument, KlineDoubt, ShardCursor
from apps.market.rest import KLINES_MAX, Kline, Rest, RestError
from apps.market.services.orders import settle_doubts
from apps.staff import times

log = logging.getLogger(__name__)

SETTLED_MS: Final = 2 * times.MINUTE_MS  # event time after which late trades and klines have settled
ERRORS_MAX: Final = 3
_WIDE: Final = Context(prec=80)


@dataclass(slots=True)
class Swept:
    """What one run did. `errors`: what the exchange did not tell, in words."""

    symbols: int = 0
    minutes: int = 0
    doubts: int = 0
    errors: tuple[str, ...] = ()


def sweep(*, epoch: int, rest: Rest, now_ms: int, limit: int, enough: Callable[[], bool] = lambda: False) -> Swept:
    """Compare at most `limit` symbols, longest not compared first; one call each, 1,000 minutes at most.

    Stops early when `enough` says so or the exchange fails three times. Never raises what the exchange did wrong.
    """
    settle_doubts(epoch=epoch, now=times.moment(now_ms))
    done = Swept()
    newest = _newest_settled(epoch)
    failures = 0
    members = EpochInstrument.objects.filter(epoch_id=epoch, followed=True).select_related("instrument")
    for member in members.order_by(F("swept_minute").asc(nulls_first=True), "instrument__symbol"):
        if done.symbols >= limit or failures >= ERRORS_MAX or enough():
            break
        try:
            _sweep_symbol(member, newest.get(member.shard), rest, done)
        except RestError as error:
            done.errors += (f"{member.instrument}: {error}",)
            failures += error.retry  # what another try cannot mend concerns this symbol only
    if done.errors:
        log.warning("klines were not compared: %s", "; ".join(done.errors[:ERRORS_MAX]))
    return done


def symbols_per_run(*, epoch: int) -> int:
    """How many symbols a run each minute must take so that each has two turns an hour."""
    return max(20, -(-EpochInstrument.objects.filter(epoch_id=epoch, followed=True).count() // 30))


def _newest_settled(epoch: int) -> dict[int, int]:
    """By shard: the last minute that is old enough to be compared."""
    cursors = ShardCursor.objects.filter(epoch_id=epoch, watermark_ms__isnull=False)
    return {row.shard: ((row.watermark_ms or 0) - SETTLED_MS) // times.MINUTE_MS - 1 for row in cursors}


def _sweep_symbol(member: EpochInstrument, newest: int | None, rest: Rest, done: Swept) -> None:
    swept = member.swept_minute
    if newest is None or (swept is not None and swept >= newest):
        return
    bars = Bar.objects.filter(epoch_id=member.epoch_id, instrument_id=member.instrument_id, minute__lte=newest)
    if swept is not None:
        bars = bars.filter(minute__gt=swept)
    first = bars.order_by("minute").values_list("minute", flat=True).first()
    if first is None:
        return
    bars = bars.filter(minute__lt=first + KLINES_MAX)
    last = bars.order_by("-minute").values_list("minute", flat=True)[0]
    ledger = Coverage.objects.filter(
        epoch_id=member.epoch_id, instrument_id=member.instrument_id, minute=OuterRef("minute")
    )
    rows_of_trades = bars.filter(~Exists(ledger), source=Bar.Source.TRADES)
    proven = dict(rows_of_trades.order_by("minute").values_list("minute", "volume"))
    done.symbols += 1
    doubts: list[KlineDoubt] = []
    if proven:
        rows = rest.klines(member.instrument.symbol, first_minute=min(proven), last_minute=max(proven))
        told = _volumes(rows, member.instrument.quantity_decimals)
        if not told:
            return
        if max(proven) > max(told):  # the exchange has not told its newest minutes yet: they wait
            last = max(told)
        doubts = [
            KlineDoubt(
                epoch_id=member.epoch_id, instrument_id=member.instrument_id, minute=minute, ours=ours, theirs=theirs
            )
            for minute, ours in proven.items()
            if minute <= last and ours != (theirs := told.get(minute, Decimal(0)))
        ]
    if _store(member, last, doubts):
        done.minutes += sum(minute <= last for minute in proven)
        done.doubts += len(doubts)


def _volumes(rows: list[Kline], decimals: int) -> dict[int, Decimal]:
    """Volumes by minute. More decimals than the instrument has are sums of rounded numbers, not trades."""
    step = Decimal(1).scaleb(-decimals)
    return {row.minute: row.volume.quantize(step, rounding=ROUND_HALF_EVEN, context=_WIDE) for row in rows}


@transaction.atomic
def _store(member: EpochInstrument, last: int, doubts: list[KlineDoubt]) -> bool:
    """False if another run was here first; then nothing is stored.

    Only what agrees counts as compared: a minute in doubt is passed once the ledger has it, or late trades have come.
    """
    if doubts:
        last = doubts[0].minute - 1
    same = EpochInstrument.objects.filter(pk=member.pk, swept_minute=member.swept_minute)
    if not same.update(swept_minute=last):
        return False
    for doubt in doubts:
        log.warning("%s minute %d: %s here, %s in klines", member.instrument, doubt.minute, doubt.ours, doubt.theirs)
    KlineDoubt.objects.bulk_create(
        doubts,
        update_conflicts=True,
        unique_fields=["epoch", "instrument", "minute"],
        update_fields=["ours", "theirs", "settled_at"],
    )
    return True
