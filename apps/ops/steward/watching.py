"""What the watchdog is shown: the youngest feed, the order path, and what became of the newest orders."""

from __future__ import annotations

from datetime import timedelta

import redis
from django.conf import settings
from django.utils import timezone

from apps.bus.feed import FeedAge, UnreadableReport, read_report
from apps.engine.orders import Event
from apps.execution.models import Order, OrderEvent
from apps.execution.selectors import compared
from apps.market.models import EpochInstrument
from apps.portfolio.models import MAIN_BOOK, Account, TradingSession
from apps.risk.services.findings import Outcomes
from apps.risk.services.limits import ORDERS_SEEN
from apps.risk.services.path import read_path
from apps.risk.services.watchdog import Watchdog


def watch(dog: Watchdog, *, session: TradingSession, reader: redis.Redis, now_ms: int) -> None:
    """One look at the accounts of a session. Raises what PostgreSQL or Redis raise."""
    accounts = list(Account.objects.filter(session=session).select_related("session__epoch"))
    dog.watch(
        accounts,
        now_ms=now_ms,
        feed=youngest_feed(session.epoch_id, reader, now_ms),
        path=read_path(reader, version=settings.CODE_HASH, now_ms=now_ms, epoch_id=session.epoch_id),
        outcomes=lambda account, limits: outcomes_of(
            account, within=timedelta(milliseconds=limits.error_rate_window_ms)
        ),
        compared=lambda account, limits: compared(account, limits) if account.book == MAIN_BOOK else None,
    )


def youngest_feed(epoch_id: int, reader: redis.Redis, now_ms: int) -> FeedAge:
    """The age of the symbol that was heard of last; unknown if no symbol's is known."""
    try:
        report = read_report(reader, epoch=epoch_id)
    except (redis.RedisError, UnreadableReport) as error:
        return FeedAge(None, f"the ingest's report cannot be read ({type(error).__name__})")
    if report is None:
        return FeedAge(None, "the ingest has not reported")
    symbols = EpochInstrument.objects.filter(epoch_id=epoch_id, followed=True)
    ages = [report.age(symbol, now_ms) for symbol in symbols.values_list("instrument__symbol", flat=True)]
    known = [age for age in ages if age.age_ms is not None]
    if known:
        return min(known, key=lambda age: age.age_ms or 0)
    return ages[0] if ages else FeedAge(None, "no symbol is followed")


def outcomes_of(account: Account, *, within: timedelta) -> Outcomes:
    """Of the newest orders (`ORDERS_SEEN` at most): how many are that young, and how many were rejected or lost."""
    newest = Order.objects.filter(account=account).order_by("-id").values_list("pk", "created_at")[:ORDERS_SEEN]
    since = timezone.now() - within
    young = [pk for pk, created_at in newest if created_at >= since]
    bad = OrderEvent.objects.filter(order__in=young, event__in=[Event.REJECT.value, Event.LOSE.value])
    sent = OrderEvent.objects.filter(order__in=young, event=Event.SUBMIT.value)
    return Outcomes(sent.count(), bad.values("order").distinct().count())
