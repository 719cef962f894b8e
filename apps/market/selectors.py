"""Reads of the market's rows."""

from __future__ import annotations

from collections.abc import Iterable

from apps.engine.model import Scale
from apps.market.models import EpochInstrument, FeedEpoch, Instrument, ShardCursor


def current_epoch() -> FeedEpoch | None:
    """The newest epoch that has not ended."""
    return FeedEpoch.objects.filter(ended_at__isnull=True).order_by("-id").first()


def shard_instruments(*, epoch_id: int, shard: int) -> dict[str, Instrument]:
    """The instruments of one shard by symbol, in symbol order."""
    members = EpochInstrument.objects.filter(epoch_id=epoch_id, shard=shard).select_related("instrument")
    return {member.instrument.symbol: member.instrument for member in members.order_by("instrument__symbol")}


def epoch_instruments(*, epoch_id: int) -> list[Instrument]:
    return list(Instrument.objects.filter(epochinstrument__epoch_id=epoch_id).order_by("symbol"))


def scales(instruments: Iterable[Instrument]) -> dict[str, Scale]:
    return {row.symbol: Scale(row.price_decimals, row.quantity_decimals) for row in instruments}


def reached_ms(*, epoch_id: int) -> int | None:
    """Event time that every shard with symbols has reached; None while one of them has reached none."""
    shards = EpochInstrument.objects.filter(epoch_id=epoch_id).values("shard")
    times = list(ShardCursor.objects.filter(epoch_id=epoch_id, shard__in=shards).values_list("watermark_ms", flat=True))
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None
