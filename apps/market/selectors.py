"""Reads of the market's rows."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Max, Min, QuerySet

from apps.bus.streams import START
from apps.engine.model import Scale
from apps.market.models import ArchivedShard, EpochInstrument, FeedEpoch, Instrument, ShardCursor
from apps.outbox.reads import Read


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
    """Event time that every shard has reached, but for those that nothing covers: a refused symbol stops no other."""
    return _REACHED.first(epoch_id)


def closed_minute(*, epoch_id: int) -> int | None:
    """The last minute that every shard has closed, but for those that nothing covers."""
    return _CLOSED.first(epoch_id)


def unread_shards(*, epoch_id: int) -> bool:
    """Whether a shard with symbols has read nothing yet, so that nobody can say how far it is."""
    shards = EpochInstrument.objects.filter(epoch_id=epoch_id).values("shard")
    return ShardCursor.objects.filter(epoch_id=epoch_id, shard__in=shards, seen_through=START).exists()


def archive_failures(*, epoch_id: int) -> int | None:
    """Attempts to archive that failed in a row, of the shard that is worst; None if none was made yet."""
    found: int | None = ArchivedShard.objects.filter(epoch_id=epoch_id).aggregate(worst=Max("failures"))["worst"]
    return found


def _slowest(name: str) -> Read[int | None]:
    """The least of a column over the epoch's shards that have symbols; no row if there are none."""

    def build(epoch_id: int) -> QuerySet[ShardCursor, int | None]:
        shards = EpochInstrument.objects.filter(epoch_id=epoch_id).values("shard")
        cursors = ShardCursor.objects.filter(epoch_id=epoch_id, shard__in=shards)
        return cursors.order_by().values("epoch_id").annotate(slowest=Min(name)).values_list("slowest", flat=True)

    return Read(build, int)


_REACHED, _CLOSED = _slowest("watermark_ms"), _slowest("closed_minute")
