"""Sessions and money: one account per session and book, one double-entry ledger, one position per entry order."""

from __future__ import annotations

from django.db import models

from apps.market.models import MONEY, PRICE, QUANTITY, FeedEpoch, Instrument

MAIN_BOOK = "main"


class TradingSession(models.Model):
    """A run with a mode and a frozen configuration. Every row of the road belongs to one."""

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
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


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


class LedgerEntry(models.Model):
    """One leg. The legs of one `reference` and currency sum to zero."""

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
    quantity = models.DecimalField(**QUANTITY, help_text="held now: equals the signed sum of its trades")
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
    realized = models.DecimalField(**MONEY, default=0, help_text="quote currency, before fees")
    fees = models.DecimalField(**MONEY, default=0)
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
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "minute"], name="equity_once_per_minute")]

    def __str__(self) -> str:
        return f"{self.equity} at {self.minute}"
