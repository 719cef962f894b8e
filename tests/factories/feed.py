"""Rows of what the feed lived through: gaps, changes of state, leases, doubts, choices of symbols."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from decimal import Decimal

from django.utils import timezone
from factory.declarations import LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.market import models as market
from tests.factories.seen import START_MINUTE, START_MS, FeedEpochFactory, InstrumentFactory


class ArchivedShardFactory(DjangoModelFactory[market.ArchivedShard]):
    class Meta:
        model = market.ArchivedShard

    epoch = SubFactory(FeedEpochFactory)
    shard = 0
    archived_through = f"{START_MS}-0"
    trades = 1_204
    moved_at = LazyFunction(timezone.now)
    failures = 2
    error = "no space left on device"
    failed_at = LazyFunction(timezone.now)


class LongerBarFactory(DjangoModelFactory[market.LongerBar]):
    """Five proven minutes."""

    class Meta:
        model = market.LongerBar

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    length = 5
    minute = START_MINUTE - START_MINUTE % 5
    open = SelfAttribute("close")
    high = SelfAttribute("close")
    low = SelfAttribute("close")
    close = Decimal("0.5")
    volume = Decimal(500)
    turnover = Decimal(250)
    count = 5
    hash_sum = 0
    proven = 5
    backfilled = 0
    unproven = 0


class GapFactory(DjangoModelFactory[market.Gap]):
    class Meta:
        model = market.Gap

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    first_minute = START_MINUTE
    last_minute = SelfAttribute("first_minute")
    reason = "no_pong"


class FeedTransitionFactory(DjangoModelFactory[market.FeedTransition]):
    class Meta:
        model = market.FeedTransition

    epoch = SubFactory(FeedEpochFactory)
    entry_id = Sequence(lambda n: f"{START_MS}-{n}")
    token = 1
    connection = "connection 1"
    at = LazyFunction(timezone.now)
    from_state = "STREAMING"
    to_state = "CLOSED"
    category = "no_pong"
    reason = "no PONG for 35 s"
    closed_by = "us"
    code = 1006
    age_ms = 3_723_000
    last_frame_age_ms = 36_000
    last_pong_age_ms = 35_100
    bytes_in = 48_211_000
    subscriptions = 30


class IngestLeaseFactory(DjangoModelFactory[market.IngestLease]):
    """A lease that was taken an instant ago and is held."""

    class Meta:
        model = market.IngestLease

    epoch = SubFactory(FeedEpochFactory)
    token = 1
    holder = "machine:4711"
    acquired_at = LazyFunction(timezone.now)
    renewed_at = LazyFunction(timezone.now)


class KlineDoubtFactory(DjangoModelFactory[market.KlineDoubt]):
    class Meta:
        model = market.KlineDoubt

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    minute = START_MINUTE
    ours = Decimal("99.5")
    theirs = Decimal(100)


class ScreenerRuleFactory(DjangoModelFactory[market.ScreenerRule]):
    class Meta:
        model = market.ScreenerRule

    mode = market.ScreenerRule.Mode.TURNOVER
    count = 5
    quote_asset = "USDT"
    author = "mara"
    reason = "a first try"


class ScreenerRunFactory(DjangoModelFactory[market.ScreenerRun]):
    class Meta:
        model = market.ScreenerRun

    rule = SubFactory(ScreenerRuleFactory)
    epoch = SubFactory(FeedEpochFactory)
    considered = 412
    rows = LazyFunction(
        lambda: [
            {"rank": 1, "symbol": "XRPUSDT", "turnover": "1234567.5", "movement": "0.0321", "verdict": "followed",
             "why": "rank 1 by turnover, 5 are wanted"},
            {"rank": 6, "symbol": "ADAUSDT", "turnover": "99000", "movement": "-0.01", "verdict": "left out",
             "why": "rank 6 by turnover, 5 are wanted"},
        ]
    )  # fmt: skip
    added = LazyFunction(lambda: ["XRPUSDT"])
    removed = LazyFunction(lambda: ["DOGEUSDT"])
