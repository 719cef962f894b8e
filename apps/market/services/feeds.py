"""Making and ending feed epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.bus.streams import shard_of
from apps.market import rest
from apps.market.models import EpochInstrument, FeedEpoch, Instrument, ShardCursor


class FeedRefused(Exception):
    """The feed cannot be followed as asked; the message says why and what to do."""


@transaction.atomic
def store_instruments(*, source: str, rows: Mapping[str, dict[str, Any]], symbols: Iterable[str]) -> list[Instrument]:
    """Insert or refresh the named instruments of a source. Raises `FeedRefused` for one that the exchange lacks."""
    stored = []
    for symbol in symbols:
        if symbol not in rows:
            raise FeedRefused(f"the exchange does not list {symbol}")
        fields = rest.filters(rows[symbol])
        stored.append(Instrument.objects.update_or_create(source=source, symbol=symbol, defaults=fields)[0])
    quotes = sorted({row.quote_asset for row in stored})
    if len(quotes) != 1:
        raise FeedRefused(f"one account has one quote currency, these symbols have {', '.join(quotes) or 'none'}")
    return stored


@transaction.atomic
def continue_or_begin(
    *,
    kind: str,
    source: str,
    description: str,
    shard_count: int,
    instruments: list[Instrument],
    screened_for: str = "",
) -> tuple[FeedEpoch, bool]:
    """The running epoch of this very feed, or a new one; whether it is new. Other epochs end.

    A feed is the same if source, shard count and symbols are. Where a rule chooses the symbols, `screened_for` names
    the quote asset it chooses for and takes the place of the symbols: they come and go within one epoch.
    """
    wanted = {row.pk for row in instruments}
    for epoch in FeedEpoch.objects.filter(ended_at__isnull=True, source=source, shard_count=shard_count):
        members = epoch.members.values_list("instrument_id", "instrument__quote_asset")
        quotes = {quote for _, quote in members}
        if quotes == {screened_for} if screened_for else {instrument for instrument, _ in members} == wanted:
            FeedEpoch.objects.filter(ended_at__isnull=True).exclude(pk=epoch.pk).update(ended_at=timezone.now())
            return epoch, False
    FeedEpoch.objects.filter(ended_at__isnull=True).update(ended_at=timezone.now())
    epoch = FeedEpoch.objects.create(kind=kind, source=source, description=description[:200], shard_count=shard_count)
    EpochInstrument.objects.bulk_create(
        EpochInstrument(epoch=epoch, instrument=row, shard=shard_of(row.symbol, shard_count)) for row in instruments
    )
    ShardCursor.objects.bulk_create(ShardCursor(epoch=epoch, shard=shard) for shard in range(shard_count))
    return epoch, True
