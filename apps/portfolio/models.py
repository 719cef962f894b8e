"""Sessions and money: one account per session and book, one double-entry ledger, one position per entry order."""

from __future__ import annotations

from django.db import models

from apps.market.models import MONEY, PRICE, QUANTITY, FeedEpoch, Instrument
from apps.staff.frozen import FrozenRow

MAIN_BOOK = "main"
PERSON_MAX = 150
REASON_MAX = 200
CORRECTION = "correction:"
"""How the references of corrections begin."""


class TradingSession(models.Model):
    """A run with a mode and a frozen configuration. Every row of the road belongs to one.

    The database refuses to change what it was started with. A block of days has an end from the start (`ends_at`): from
    then on nothing is opened, and it ends with its last position.
    """

    class Mode(models.TextChoices):
        BACKTEST = "BACKTEST"
        PAPER = "PAPER"
        LIVE = "LIVE"

    class Tier(models.TextChoices):
        LOW_TRUST = "LOW_TRUST"
        NORMAL = "NORMAL"
        HIGH_TRUST = "HIGH_TRUST"

    name = models.CharField(max_length=100)
    mode = models.CharField(max_length=10, choices=Mode.choices)
    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="sessions")
    tier = models.CharField(max_length=12, choices=Tier.choices)
    quote_asset = models.CharField(max_length=16)
    config = models.JSONField(help_text="the configuration this session was started with; never changed")
    seed = models.BigIntegerField(default=0)
    started_at = models.DateTimeField(auto_now_add=True)
    ends_at = models.DateTimeField(null=True, blank=True, help_text="wall clock; empty: until somebody stops it")
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=PERSON_MAX, blank=True, default="")
    end_reason = models.CharField(max_length=REASON_MAX, blank=True, default="")

    def __str__(self) -> str:
        return self.name


class SessionReport(FrozenRow):
    """What a session came to, as it was known when it ended."""

    session = models.OneToOneField(TradingSession, on_delete=models.PROTECT, related_name="report")
    figures = models.JSONField(help_text="configuration and figures; money as exact text")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"report of {self.session}"


class Account(models.Model):
    """The money of one book of a session, in one quote currency. Locked before anything that moves money."""

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="accounts")
    book = models.CharField(max_length=32, default=MAIN_BOOK)
    currency = models.CharField(max_length=16)
    initial = models.DecimalField(**MONEY)
    cash = models.DecimalField(**MONEY, help_text="total: equals the sum of this account's cash legs")
    sequence = models.BigIntegerField(default=0, help_text="orders decisions, fills, cancels and halts")
    portfolio_epoch = models.BigIntegerField(default=0, help_text="grows whenever a position changes")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "book"], name="account_once_per_book")]

    def __str__(self) -> str:
        return f"{self.session} / {self.book}"


class LedgerEntry(FrozenRow):
    """One leg. The legs of one `reference` and currency sum to zero. What was wrong is corrected by further legs."""

    class Kind(models.TextChoices):
        CASH = "cash"
        ASSET = "asset"
        FEE = "fee"
        VENUE = "venue"
        CAPITAL = "capital"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="ledger")
    reference = models.CharField(max_length=80, help_text="what moved the money, e.g. trade:paper:17 or deposit")
    leg = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    currency = models.CharField(max_length=16)
    amount = models.DecimalField(**MONEY)
    ts_event = models.BigIntegerField(help_text="event time, ms")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "reference", "leg"], name="ledger_leg_once")]
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.reference} {self.kind} {self.amount} {self.currency}"


class Correction(FrozenRow):
    """Why legs were added by hand, or after the venue was compared with us. Its legs are `correction:<number>`."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="corrections")
    number = models.PositiveIntegerField()
    reverses = models.CharField(max_length=80, blank=True, help_text="the reference whose legs it takes back, if any")
    reason = models.CharField(max_length=REASON_MAX)
    made_by = models.CharField(max_length=PERSON_MAX)
    approved_by = models.CharField(max_length=PERSON_MAX)
    sequence = models.BigIntegerField(help_text="account sequence")
    ts_event = models.BigIntegerField(help_text="event time that the account had reached, ms")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "number"], name="correction_once"),
            models.UniqueConstraint(
                fields=["account", "reverses"], condition=~models.Q(reverses=""), name="reversed_once"
            ),
        ]

    @property
    def reference(self) -> str:
        return f"{CORRECTION}{self.number}"

    def __str__(self) -> str:
        return f"correction {self.number}: {self.reason}"


class Position(models.Model):
    """One round trip: opened by one entry order, with exits of its own (docs/decisions: a position per entry)."""

    class Status(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    opened_by = models.CharField(max_length=40, unique=True, help_text="client_order_id of the entry order")
    strategy_version_id = models.BigIntegerField()
    status = models.CharField(max_length=6, choices=Status.choices, default=Status.OPEN)
    quantity = models.DecimalField(
        **QUANTITY, help_text="held now: the signed sum of its trades, less fees that were taken in the coin itself"
    )
    entry_quantity = models.DecimalField(**QUANTITY)
    entry_price = models.DecimalField(**PRICE, help_text="average over the entry's fills, rounded to 12 places")
    stop_price = models.DecimalField(**PRICE)
    target_price = models.DecimalField(**PRICE, help_text="0: none")
    trailing_stop_pct = models.DecimalField(
        max_digits=9, decimal_places=6, default=0, help_text="below the highest price since the entry; 0: none"
    )
    exit_on_signal = models.BooleanField(default=True, help_text="an exit signal of its strategy closes it")
    opened_ts = models.BigIntegerField(help_text="event time of the first fill, ms")
    due_ts = models.BigIntegerField(help_text="event time at which the maximum holding time is over, ms")
    trigger_entry = models.CharField(max_length=40, help_text="stream entry of the signal: exits are scanned from here")
    closed_ts = models.BigIntegerField(null=True, blank=True)
    exit_attempts = models.PositiveSmallIntegerField(
        default=0, help_text="exits that ended without a fill: the next one has a trigger key of its own"
    )
    retry_ts = models.BigIntegerField(
        default=0, help_text="event time from which an exit may be found again after one without a fill, ms; 0: none"
    )
    cost = models.DecimalField(
        **MONEY, default=0, help_text="what the quantity held now was bought for, quote currency"
    )
    realized = models.DecimalField(**MONEY, default=0, help_text="quote currency, before fees")
    fees = models.DecimalField(**MONEY, default=0, help_text="quote currency")
    fees_unvalued = models.JSONField(default=dict, blank=True, help_text="fees in coins that had no price, by coin")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["account", "status"])]

    def __str__(self) -> str:
        return f"{self.instrument} {self.quantity.normalize():f} ({self.status})"


class Reservation(models.Model):
    """Money or assets promised to an order that has not ended."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="reservations")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    client_order_id = models.CharField(max_length=40, unique=True)
    reducing = models.BooleanField()
    position = models.ForeignKey(Position, on_delete=models.PROTECT, null=True, blank=True)
    currency = models.CharField(max_length=16)
    amount = models.DecimalField(**MONEY, help_text="still promised, in `currency`; 0 once released")
    notional = models.DecimalField(
        **MONEY, help_text="still counted as exposure, quote currency; 0 for a reducing order"
    )
    ts_event = models.BigIntegerField()
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["account"], name="reservation_active", condition=models.Q(active=True))]

    def __str__(self) -> str:
        return f"{self.client_order_id} {self.amount.normalize():f} {self.currency}"


class EquityPoint(models.Model):
    """The account's worth at the close of one event minute."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="equity_points")
    minute = models.BigIntegerField()
    cash = models.DecimalField(**MONEY)
    equity = models.DecimalField(**MONEY)
    exposure = models.DecimalField(**MONEY)
    peak = models.DecimalField(**MONEY, default=0, help_text="highest equity up to here")
    drawdown = models.DecimalField(
        max_digits=12, decimal_places=9, default=0, help_text="share of the peak that is gone, 0 to 1"
    )
    unvalued = models.JSONField(default=dict, blank=True, help_text="coins without a price, left out: coin -> amount")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "minute"], name="equity_once_per_minute")]

    def __str__(self) -> str:
        return f"{self.equity} at {self.minute}"
