"""Strategies and what they saw."""

from __future__ import annotations

from django.db import models

from apps.market.models import PRICE, QUANTITY, FeedEpoch, Instrument, ShardCursor
from apps.portfolio.models import MAIN_BOOK, Position, TradingSession
from apps.staff import times
from apps.staff.frozen import FrozenRow


class Strategy(models.Model):
    """A named rule, e.g. momentum."""

    name = models.CharField(max_length=40, unique=True)
    description = models.TextField()

    class Meta:
        verbose_name_plural = "strategies"

    def __str__(self) -> str:
        return self.name


class StrategyVersion(FrozenRow):
    """One frozen set of parameters of a strategy, tied to the engine sources that judge it: who made it, and why."""

    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    parameters = models.JSONField(help_text="the strategy's parameters, tier applied")
    engine_hash = models.CharField(max_length=64)
    author = models.CharField(max_length=150, default="system")
    reason = models.CharField(max_length=200, blank=True, default="")
    changes = models.JSONField(default=dict, help_text="against the version before: parameter -> [before, now]")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["strategy", "version"], name="strategy_version_once")]

    def __str__(self) -> str:
        return f"{self.strategy} v{self.version}"


class SessionStrategy(models.Model):
    """A strategy version that a session runs, and the book it trades for."""

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="strategies")
    version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT)
    book = models.CharField(max_length=32, default=MAIN_BOOK)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "version", "book"], name="strategy_once_per_book")]
        verbose_name_plural = "session strategies"
        permissions = [("enable_strategy", "Can enable a disabled strategy again")]

    def __str__(self) -> str:
        return f"{self.version} in {self.session}"


class ParameterSchedule(FrozenRow):
    """From this event minute on, trades of a session's strategy are judged by another version of it, or by nobody.

    Rows of one strategy are in force in the order of their ids, which is also the order of their minutes; of two from
    the same minute the newer one. `apps.signals.services.schedules` says why no minute is judged by two versions.
    """

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="schedule")
    base = models.ForeignKey(
        StrategyVersion, on_delete=models.PROTECT, related_name="+", help_text="the version that the session began with"
    )
    version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT, related_name="schedules")
    from_minute = models.BigIntegerField(help_text="event minute since 1970")
    enabled = models.BooleanField(default=True, help_text="if not, nobody judges until a later row says so")
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.version}{'' if self.enabled else ' disabled'} from minute {self.from_minute}"


class StrategyFailure(models.Model):
    """A strategy raised in a shard, which disabled it there at once; `schedule` disables it in all shards.

    A shard says so once until the strategy is enabled again, however often it is started.
    """

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="strategy_failures")
    base = models.ForeignKey(
        StrategyVersion, on_delete=models.PROTECT, related_name="+", help_text="the version that the session began with"
    )
    strategy_version = models.ForeignKey(
        StrategyVersion, on_delete=models.PROTECT, related_name="failures", help_text="in force when it raised"
    )
    shard = models.PositiveIntegerField()
    symbol = models.CharField(max_length=32, blank=True, help_text="empty: before its first trade")
    ts_event = models.BigIntegerField(help_text="event time of the trade or minute that it raised on, ms; 0: none")
    words = models.CharField(max_length=200, help_text="of the error")
    after_change = models.BigIntegerField(default=0, help_text="the newest change of the schedule that enabled it")
    schedule = models.ForeignKey(
        ParameterSchedule, on_delete=models.PROTECT, null=True, blank=True, related_name="failures"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "base", "shard", "after_change"], name="failure_once_while_enabled"
            )
        ]

    def __str__(self) -> str:
        return f"{self.strategy_version} in shard {self.shard}: {self.words}"


class EvaluatedMinute(models.Model):
    """The newest event minute of which a shard has evaluated anything: a change of parameters begins after it."""

    cursor = models.OneToOneField(ShardCursor, on_delete=models.CASCADE, related_name="evaluated_minute")
    minute = models.BigIntegerField()

    def __str__(self) -> str:
        return f"minute {self.minute} in {self.cursor}"


class EngineState(models.Model):
    """The small state that a shard goes on from: per instrument, the market part and one part per strategy version."""

    cursor = models.ForeignKey(ShardCursor, on_delete=models.CASCADE, related_name="states")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    strategy_version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT, null=True, blank=True)
    layout = models.CharField(max_length=80, help_text="layout version; a blob of another layout is refused")
    position = models.CharField(max_length=40, help_text="the stream entry after which this was the state")
    blob = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["cursor", "instrument", "strategy_version"], name="state_once", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id}/{self.strategy_version_id} at {self.position}"


class Signal(models.Model):
    """A rule fired. `trigger_key` is what it is; the stream entry is where it was seen."""

    class Kind(models.TextChoices):
        ENTRY = "entry"
        EXIT = "exit"

    class ExitReason(models.TextChoices):
        STOP_LOSS = "stop_loss"
        TRAILING_STOP = "trailing_stop"
        TAKE_PROFIT = "take_profit"
        MAX_HOLDING = "max_holding"
        EXIT_SIGNAL = "exit_signal"
        FLATTEN = "flatten"  # a person sells everything: no function of the stream, so no replay raises it

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="signals")
    strategy_version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT)
    book = models.CharField(max_length=32, default=MAIN_BOOK)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    kind = models.CharField(max_length=5, choices=Kind.choices)
    exit_reason = models.CharField(max_length=16, choices=ExitReason.choices, blank=True)
    position = models.ForeignKey(Position, on_delete=models.PROTECT, null=True, blank=True, related_name="exit_signals")
    trigger_key = models.CharField(max_length=160)
    ts_event = models.BigIntegerField(help_text="event time of the trigger (ts_due for a time exit), ms")
    trade_id = models.CharField(max_length=64, blank=True)
    price = models.DecimalField(**PRICE, help_text="price of the triggering trade")
    change = models.FloatField(null=True, blank=True, help_text="fraction over the lookback window; an indicator")
    rsi = models.FloatField(null=True, blank=True, help_text="an indicator, 0 to 100")
    turnover = models.FloatField(null=True, blank=True, help_text="quote asset in the window; an indicator")
    bid = models.DecimalField(**PRICE, null=True, blank=True)
    bid_quantity = models.DecimalField(**QUANTITY, null=True, blank=True)
    ask = models.DecimalField(**PRICE, null=True, blank=True)
    ask_quantity = models.DecimalField(**QUANTITY, null=True, blank=True)
    quote_ts = models.BigIntegerField(null=True, blank=True)
    median_price = models.DecimalField(
        **PRICE, null=True, blank=True, help_text="of the last minute's trades, 64 at most"
    )
    confirmed_price = models.DecimalField(
        **PRICE, null=True, blank=True, help_text="that the trades up to the trigger's confirm; empty: not known"
    )
    unproven_minutes = models.PositiveSmallIntegerField(default=0)
    unproven_reason = models.CharField(max_length=100, blank=True)
    entry_id = models.CharField(max_length=40, help_text="stream entry: provenance, no part of equality")
    ts_init = models.BigIntegerField(help_text="wall clock when the ingest received the trigger, ms")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "book", "trigger_key"], name="signal_once_per_trigger")
        ]
        indexes = [models.Index(fields=["session", "-ts_event"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.instrument} {times.full(self.ts_event)}"


class SignalRefusal(models.Model):
    """A rule fired, but trades of its window may be missing: no signal was raised, and this is why."""

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="refused_signals")
    strategy_version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT)
    book = models.CharField(max_length=32, default=MAIN_BOOK)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    trigger_key = models.CharField(max_length=160)
    ts_event = models.BigIntegerField(help_text="event time of the trigger, ms")
    trade_id = models.CharField(max_length=64, blank=True)
    price = models.DecimalField(**PRICE, help_text="price of the triggering trade")
    change = models.FloatField(null=True, blank=True, help_text="fraction over the lookback window; an indicator")
    rsi = models.FloatField(null=True, blank=True, help_text="an indicator, 0 to 100")
    turnover = models.FloatField(null=True, blank=True, help_text="quote asset in the window; an indicator")
    unproven_minutes = models.PositiveSmallIntegerField(help_text="minutes of the window that are UNPROVEN")
    reason = models.CharField(max_length=100, help_text="why the first of them is")
    entry_id = models.CharField(max_length=40, help_text="stream entry: provenance, no part of equality")
    ts_init = models.BigIntegerField(help_text="wall clock when the ingest received the trigger, ms")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "book", "trigger_key"], name="refusal_once_per_trigger")
        ]
        indexes = [models.Index(fields=["session", "-ts_event"])]

    def __str__(self) -> str:
        return f"refused {self.instrument} {times.full(self.ts_event)}: {self.reason}"


class StrategyCall(models.Model):
    """A strategy said that the reason for its entries is gone: sell what was opened before this trade.

    Kept, because a fill may become known only after it. The exit signals of positions are made from it.
    """

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    base = models.ForeignKey(
        StrategyVersion,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="the version that its sessions began with",
    )
    strategy_version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT, related_name="exit_calls")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    ts_event = models.BigIntegerField(help_text="event time of the trigger, ms")
    trade_id = models.CharField(max_length=64)
    price = models.DecimalField(**PRICE, help_text="price of the triggering trade")
    entry_id = models.CharField(max_length=40, help_text="stream entry: provenance, no part of equality")
    ts_init = models.BigIntegerField(help_text="wall clock when the ingest received the trigger, ms")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["epoch", "base", "instrument", "ts_event", "trade_id"], name="call_once")
        ]

    def __str__(self) -> str:
        return f"{self.strategy_version} sells {self.instrument} {times.full(self.ts_event)}"


class ExitWatch(models.Model):
    """Up to which stream entry the trades after a fill have been searched for this position's exit, and what they left.

    What was seen is as of that entry: a search that goes on after a restart takes it over.
    """

    position = models.OneToOneField(Position, on_delete=models.CASCADE, related_name="exit_watch")
    scanned_to = models.CharField(max_length=40)
    high = models.BigIntegerField(default=0, help_text="highest price of a trade since the fill, ticks; 0: none yet")
    last_price = models.BigIntegerField(null=True, blank=True, help_text="of the last trade before, ticks")
    confirmed = models.BigIntegerField(
        default=0, help_text="price that the trades since the fill confirm, ticks; 0: not known"
    )
    suspects = models.JSONField(
        default=list,
        blank=True,
        help_text="prints not believed yet: how many in a row, then ms and ticks of two",
    )
    called_ts = models.BigIntegerField(
        default=0, help_text="when its strategy said sell on such a print, ms; 0: it did not"
    )

    class Meta:
        verbose_name_plural = "exit watches"

    def __str__(self) -> str:
        return f"{self.position_id} scanned to {self.scanned_to}"
