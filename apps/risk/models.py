"""Limits, state and decisions: every order and every order that was not placed has its reason here."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

from apps.market.models import MONEY, PRICE, QUANTITY, Instrument
from apps.portfolio.models import MAIN_BOOK, Account, Position, TradingSession
from apps.signals.models import SessionStrategy, Signal, StrategyVersion

FRACTION: Final[dict[str, Any]] = {"max_digits": 9, "decimal_places": 6}


class TradingState(models.TextChoices):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Scope(models.TextChoices):
    """What a trading state or a trip is about. The strictest of the three holds for an order."""

    ACCOUNT = "account"
    STRATEGY = "strategy"
    SYMBOL = "symbol"


class TripCause(models.TextChoices):
    """Why a rule of ours lowers a trading state by itself. Closed; each has its way back in `services.ways_back`."""

    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    ERROR_RATE = "ERROR_RATE"
    ORDER_FREQUENCY = "ORDER_FREQUENCY"
    STALE_FEED = "STALE_FEED"
    RECON = "RECON"
    EXPOSURE_DIFFERENCE = "EXPOSURE_DIFFERENCE"
    EXPOSURE = "EXPOSURE"
    NEGATIVE_CASH = "NEGATIVE_CASH"
    UNKNOWN_FILL = "UNKNOWN_FILL"
    REPEAT = "REPEAT"
    HEARTBEAT = "HEARTBEAT"
    VERSION = "VERSION"
    LEASE = "LEASE"


class SizingMode(models.TextChoices):
    """As `apps.engine.risk.values.Sizing`; the formulas stand in `apps.engine.sizing`."""

    FIXED_FRACTION = "fixed_fraction"
    FIXED_NOTIONAL = "fixed_notional"
    VOLATILITY = "volatility"


class RiskLimits(models.Model):
    """One version of an account's limits. Versions are added, never changed. Fractions are of equity unless said."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="limits")
    version = models.PositiveIntegerField()
    sizing = models.CharField(
        max_length=16, choices=SizingMode.choices, default=SizingMode.FIXED_FRACTION, help_text="how large an order is"
    )
    order_size = models.DecimalField(**FRACTION, default="0.02", help_text="notional of a new order: fixed_fraction")
    order_notional = models.DecimalField(
        max_digits=18, decimal_places=6, default="1000", help_text="quote currency: fixed_notional"
    )
    risk_fraction = models.DecimalField(
        **FRACTION, default="0.001", help_text="what a move of so many average true ranges may cost: volatility"
    )
    volatility_multiple = models.DecimalField(**FRACTION, default="2", help_text="so many average true ranges")
    order_notional_max = models.DecimalField(**FRACTION, default="0.05")
    position_max = models.DecimalField(**FRACTION, default="0.10", help_text="per symbol")
    positions_per_symbol_max = models.PositiveIntegerField(default=2, help_text="open round trips in one symbol")
    exposure_max = models.DecimalField(**FRACTION, default="0.50", help_text="gross, reservations included")
    collar = models.DecimalField(**FRACTION, default="0.02", help_text="fraction of quote and one-minute median")
    exit_band = models.DecimalField(**FRACTION, default="0.10", help_text="fraction of the quote")
    open_orders_symbol_max = models.PositiveIntegerField(default=1)
    open_orders_max = models.PositiveIntegerField(default=10)
    orders_per_second_max = models.PositiveIntegerField(default=5)
    orders_per_minute_max = models.PositiveIntegerField(default=60)
    orders_per_day_max = models.PositiveIntegerField(default=500)
    exits_per_second_max = models.PositiveIntegerField(default=20, help_text="alert only")
    duplicate_ms = models.PositiveIntegerField(default=1_000)
    repeat_max = models.PositiveIntegerField(default=3, help_text="orders on one side of a symbol within the window")
    repeat_window_ms = models.PositiveIntegerField(default=60_000)
    day_loss_reducing = models.DecimalField(**FRACTION, default="0.05", help_text="of the day's first equity")
    day_loss_halted = models.DecimalField(**FRACTION, default="0.07", help_text="of the day's first equity")
    drawdown_reducing = models.DecimalField(**FRACTION, default="0.05", help_text="of the highest equity")
    drawdown_halted = models.DecimalField(**FRACTION, default="0.07", help_text="of the highest equity")
    bad_tick = models.DecimalField(**FRACTION, default="0.10", help_text="fraction of the confirmed price")
    feed_age_max_ms = models.PositiveIntegerField(default=2_000)
    signal_age_max_ms = models.PositiveIntegerField(default=2_000)
    heartbeat_age_max_ms = models.PositiveIntegerField(default=15_000, help_text="three missed")
    feed_silence_max_ms = models.PositiveIntegerField(
        default=10_000, help_text="no feed of any symbol for so long: REDUCING"
    )
    error_rate_max = models.DecimalField(
        **FRACTION, default="0.10", help_text="of the orders sent within the window: rejected or lost"
    )
    error_rate_orders_min = models.PositiveIntegerField(default=10, help_text="fewer say nothing")
    error_rate_window_ms = models.PositiveIntegerField(default=600_000, help_text="wall clock")
    reconcile_orders_age_max_ms = models.PositiveIntegerField(
        default=30_000, help_text="since open orders were compared with the venue's: three missed"
    )
    reconcile_full_age_max_ms = models.PositiveIntegerField(
        default=180_000, help_text="since fills and balances were: three missed"
    )
    reconcile_book_max = models.DecimalField(
        max_digits=18, decimal_places=6, default="5000",
        help_text="quote currency: up to this a difference is corrected by asking and booking, without a person",
    )  # fmt: skip
    reconcile_balance_max = models.DecimalField(
        max_digits=18, decimal_places=6, default="10",
        help_text="quote currency: up to this a balance is corrected in the ledger, without a person",
    )  # fmt: skip
    trading_day_zone = models.CharField(max_length=40, default="UTC", help_text="IANA name; a day begins at midnight")
    adaptive_tiers = models.PositiveSmallIntegerField(
        default=1, help_text="1: results and breakers move the tier; 0: only a person does"
    )
    tier_dwell_minutes = models.PositiveIntegerField(default=1_440, help_text="event time between two moves by results")
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "version"], name="limits_version_once")]
        verbose_name_plural = "risk limits"
        ordering = ["-version"]

    def __str__(self) -> str:
        return f"limits v{self.version} of {self.account}"


class LimitsRefusal(models.Model):
    """Limits that somebody asked for and that were refused: nothing was changed by it. Append only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="refused_limits")
    asked = models.CharField(max_length=500, help_text="name=value, as it was typed")
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    why = models.CharField(max_length=300, help_text="what is wrong with it")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "refused limits"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.asked}: {self.why}"


class RiskState(models.Model):
    """One row per account: whether it may trade, and the exposure that was true at the last commit."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, related_name="risk_state")
    trading_state = models.CharField(max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE)
    asked_state = models.CharField(
        max_length=8,
        choices=TradingState.choices,
        default=TradingState.ACTIVE,
        help_text="what a person asked for last; open trips may hold it stricter",
    )
    state_reason = models.CharField(max_length=200, blank=True)
    state_set_by = models.CharField(max_length=150, blank=True)
    state_since = models.DateTimeField(auto_now_add=True)
    day = models.DateField(null=True, blank=True, help_text="trading day in event time, in the limits' zone")
    day_start_equity = models.DecimalField(**MONEY, null=True, blank=True)
    peak_equity = models.DecimalField(**MONEY, null=True, blank=True)
    last_equity = models.DecimalField(**MONEY, null=True, blank=True, help_text="at the newest decision")
    recon_differences = models.PositiveIntegerField(
        null=True, blank=True, default=0, help_text="that the last reconciliation left; empty: it is not known"
    )
    recon_words = models.CharField(max_length=200, blank=True, default="")
    exposure = models.DecimalField(**MONEY, default=0, help_text="gross, reservations included, on `marks`")
    marks = models.JSONField(default=dict, help_text="the MarkSet: minute and symbol -> price")
    sequence = models.BigIntegerField(default=0, help_text="account sequence of the commit that stored this")

    class Meta:
        permissions = [
            ("change_trading_state", "Can halt and reduce trading, and sell every position"),
            ("resume_trading", "Can let trading go on"),
        ]

    def __str__(self) -> str:
        return f"{self.trading_state} ({self.account})"


class ScopedState(models.Model):
    """The trading state of one strategy or one symbol of an account. No row: nothing was ever said of it, ACTIVE."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="scoped_states")
    scope = models.CharField(max_length=8, choices=Scope.choices)
    subject = models.CharField(max_length=40, help_text="the strategy's name or the symbol")
    trading_state = models.CharField(max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE)
    asked_state = models.CharField(max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE)
    state_reason = models.CharField(max_length=200, blank=True)
    state_set_by = models.CharField(max_length=150, blank=True)
    state_since = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "scope", "subject"], name="scoped_state_once"),
            models.CheckConstraint(condition=~models.Q(scope=Scope.ACCOUNT), name="scoped_state_is_not_global"),
        ]

    def __str__(self) -> str:
        return f"{self.trading_state} {self.scope} {self.subject}"


class BreakerTrip(models.Model):
    """A rule of ours lowered a trading state: why, on what evidence, and when the way back was taken."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="trips")
    sequence = models.BigIntegerField(help_text="account sequence")
    cause = models.CharField(max_length=20, choices=TripCause.choices)
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.ACCOUNT)
    subject = models.CharField(max_length=40, blank=True, default="", help_text="empty: the account")
    from_state = models.CharField(max_length=8, choices=TradingState.choices, help_text="of this scope")
    to_state = models.CharField(max_length=8, choices=TradingState.choices, help_text="no laxer while this is open")
    evidence = models.JSONField(default=dict, help_text="the figures it was made on, by name")
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    gone_at = models.DateTimeField(null=True, blank=True, help_text="when whoever watches the cause saw it gone")
    cleared_at = models.DateTimeField(null=True, blank=True)
    cleared_by = models.CharField(max_length=150, blank=True, default="")
    clear_reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "cause", "scope", "subject", "to_state"],
                condition=models.Q(cleared_at=None),
                name="trip_open_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.cause}: {self.from_state} -> {self.to_state}"


class RiskStateChange(models.Model):
    """Who changed the trading state, when and why. Append only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="state_changes")
    sequence = models.BigIntegerField()
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.ACCOUNT)
    subject = models.CharField(max_length=40, blank=True, default="", help_text="empty: the account")
    trip = models.ForeignKey(BreakerTrip, on_delete=models.PROTECT, null=True, blank=True, related_name="changes")
    from_state = models.CharField(max_length=8, choices=TradingState.choices)
    to_state = models.CharField(max_length=8, choices=TradingState.choices)
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.from_state} -> {self.to_state} by {self.set_by}"


class StateRefusal(models.Model):
    """A change of a trading state that somebody asked for and that was refused: nothing was changed. Append only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="refused_states")
    asked = models.CharField(max_length=8, help_text="the state, or what was pressed")
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.ACCOUNT)
    subject = models.CharField(max_length=40, blank=True, default="")
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200, blank=True)
    why = models.CharField(max_length=300, help_text="it was refused")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.asked} refused: {self.why}"


class TierChange(models.Model):
    """Every move of a tier, with what it was made on, and from which event minute on the new thresholds judge."""

    class Cause(models.TextChoices):
        RESULTS = "results"
        BREAKER = "breaker"
        PERSON = "person"

    binding = models.ForeignKey(SessionStrategy, on_delete=models.PROTECT, related_name="tier_changes")
    from_tier = models.CharField(max_length=12, choices=TradingSession.Tier.choices)
    to_tier = models.CharField(max_length=12, choices=TradingSession.Tier.choices)
    cause = models.CharField(max_length=8, choices=Cause.choices)
    round_trips = models.PositiveIntegerField(help_text="how many of the newest closed round trips were looked at")
    wins = models.PositiveIntegerField(help_text="those of them that won more than their fees")
    lower = models.FloatField(help_text="lower end of the win rate's interval, a fraction; a statistic")
    upper = models.FloatField(help_text="its upper end")
    closed_before = models.PositiveIntegerField(help_text="round trips closed before this move, in all")
    version = models.ForeignKey(StrategyVersion, on_delete=models.PROTECT, related_name="tier_changes")
    from_minute = models.BigIntegerField(help_text="event minute from which the new thresholds judge")
    ts_event = models.BigIntegerField(
        help_text="event time of the move: of the last close, or reached when it came, ms"
    )
    breaker = models.ForeignKey(
        RiskStateChange, on_delete=models.PROTECT, null=True, blank=True, related_name="tier_changes"
    )
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["binding", "breaker"], name="tier_change_once_per_breaker")]
        permissions = [("override_tier", "Can set a tier by hand")]

    def __str__(self) -> str:
        return f"{self.from_tier} -> {self.to_tier} by {self.set_by}"


class RiskDecision(models.Model):
    """The verdict on one signal, with every check's input, limit and verdict as they were."""

    class Verdict(models.TextChoices):
        APPROVED = "approved"
        DENIED = "denied"

    signal = models.ForeignKey(Signal, on_delete=models.PROTECT, related_name="decisions")
    book = models.CharField(max_length=32, default=MAIN_BOOK)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="decisions")
    sequence = models.BigIntegerField(help_text="account sequence")
    verdict = models.CharField(max_length=8, choices=Verdict.choices)
    reasons = models.JSONField(default=list, help_text="reason codes of the checks that failed, in order")
    sentence = models.CharField(max_length=300, help_text="the verdict in words")
    checks = models.JSONField(help_text="list of {code, value, limit, margin, left, passed, note}")
    inputs = models.JSONField(default=dict, help_text="what it was told beside ages and marks: the order path, caps")
    limits = models.ForeignKey(RiskLimits, on_delete=models.PROTECT)
    trading_state = models.CharField(max_length=8, choices=TradingState.choices)
    equity = models.DecimalField(**MONEY)
    exposure_before = models.DecimalField(**MONEY)
    exposure_after = models.DecimalField(**MONEY)
    marks = models.JSONField(default=dict)
    ts_event = models.BigIntegerField()
    feed_age_ms = models.BigIntegerField(null=True, blank=True)
    signal_age_ms = models.BigIntegerField()
    decided_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["signal", "book"], name="decision_once_per_signal")]

    def __str__(self) -> str:
        return f"{self.verdict} #{self.sequence}"


class OrderIntent(models.Model):
    """What an approved decision wants done. One per decision and leg."""

    class Side(models.TextChoices):
        BUY = "BUY"
        SELL = "SELL"

    decision = models.ForeignKey(RiskDecision, on_delete=models.PROTECT, related_name="intents")
    leg = models.PositiveSmallIntegerField(default=0)
    client_order_id = models.CharField(max_length=40, unique=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="intents")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    side = models.CharField(max_length=4, choices=Side.choices)
    quantity = models.DecimalField(**QUANTITY)
    limit_price = models.DecimalField(**PRICE)
    reducing = models.BooleanField()
    position = models.ForeignKey(Position, on_delete=models.PROTECT, null=True, blank=True, related_name="exit_intents")
    ts_event = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["decision", "leg"], name="intent_once_per_leg")]
        indexes = [models.Index(fields=["account", "ts_event"])]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} {self.instrument}"
