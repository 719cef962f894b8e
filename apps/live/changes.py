"""Has anything changed that the board shows? One query and one read of Redis instead of all of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, Max, OuterRef, Subquery, Sum

from apps.bus.clients import glance
from apps.bus.streams import feed_state_key
from apps.execution.models import OrderEvent
from apps.live.sources import State
from apps.market.models import ShardCursor
from apps.portfolio.models import TradingSession
from apps.risk.models import RiskStateChange
from apps.signals.models import Signal

_FIELDS = (
    "ended_at",
    "accounts__sequence",
    "accounts__portfolio_epoch",
    "accounts__risk_state__trading_state",
    "processed",
    "cursor_at",
    "signal",
    "event",
    "change",
)


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return glance(url)


def change_token(state: State) -> tuple[Any, ...]:
    """Compares equal as long as nothing that the board shows has changed."""
    if state.session is None:
        return (TradingSession.objects.aggregate(newest=Max("id"), count=Count("id"), ended=Max("ended_at")),)
    account = OuterRef("accounts__id")
    cursors = ShardCursor.objects.filter(epoch=OuterRef("epoch")).order_by().values("epoch")
    row = (
        TradingSession.objects.filter(pk=state.session.pk)
        .annotate(
            processed=Subquery(cursors.annotate(n=Sum("processed")).values("n")),
            cursor_at=Subquery(cursors.annotate(n=Max("updated_at")).values("n")),
            signal=Subquery(Signal.objects.filter(session=OuterRef("pk")).order_by("-id").values("id")[:1]),
            event=Subquery(OrderEvent.objects.order_by("-id").values("id")[:1]),
            change=Subquery(RiskStateChange.objects.filter(account=account).order_by("-id").values("id")[:1]),
        )
        .values_list(*_FIELDS)
        .first()
    )
    return (state.session.pk, row, _report(state.session.epoch_id))


def _report(epoch_id: int) -> bytes | None:
    """The ingest's newest report as it stands, None if there is none or Redis does not answer."""
    try:
        return _client(settings.REDIS_URL).get(feed_state_key(epoch_id))  # type: ignore[return-value]
    except redis.RedisError:
        return None
