"""Orders, their events and fills; and, behind the venue protocol, the paper venue's own books."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

from apps.engine.matching import Liquidity
from apps.execution.reconciliation_models import DatabaseIncarnation as DatabaseIncarnation
from apps.execution.reconciliation_models import ReconcileDifference as ReconcileDifference
from apps.execution.reconciliation_models import ReconcileRun as ReconcileRun
from apps.execution.reconciliation_models import TradingStart as TradingStart
from apps.market.models import MONEY, PRICE, QUANTITY, Instrument
from apps.portfolio.models import Account, Position
from apps.risk.models import OrderIntent

BPS: Final[dict[str, Any]] = {"max_digits": 18, "decimal_places": 6}
LIQUIDITY: Final[dict[str, Any]] = {
    "max_length": 5,
    "choices": [(one.value, one.value) for one in Liquidity],
    "default": Liquidity.TAKER.value,
}


class OrderStatus(models.TextChoices):
    INITIALIZED = "INITIALIZED"
    DENIED = "DENIED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


class Order(models.Model):
    """One order of ours, as far as we know. UNKNOWN means exactly that, and is left only by asking the venue."""

    intent = models.OneToOneField(OrderIntent, on_delete=models.PROTECT, related_name="order")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    client_order_id = models.CharField(max_length=40, unique=True)
    venue = models.CharField(max_length=16)
    venue_order_id = models.CharField(max_length=64, blank=True)
    side = models.CharField(max_length=4, choices=OrderIntent.Side.choices)
    quantity = models.DecimalField(**QUANTITY)
    limit_price = models.DecimalField(**PRICE)
    reducing = models.BooleanField()
    status = models.CharField(max_length=16, choices=OrderStatus.choices, default=OrderStatus.INITIALIZED)
    reason = models.CharField(max_length=200, blank=True)
    filled_qty = models.DecimalField(**QUANTITY, default=0)
    leaves_qty = models.DecimalField(**QUANTITY)
    avg_px = models.DecimalField(**PRICE, null=True, blank=True)
    ts_event = models.BigIntegerField(help_text="event time of the trigger, ms")
    unclear_since = models.DateTimeField(null=True, blank=True, help_text="since when the venue gave no clear answer")
    asks = models.PositiveIntegerField(default=0, help_text="questions without a clear answer, in a row")
    ask_at = models.DateTimeField(null=True, blank=True, help_text="when the next question is due")
    missing_since = models.DateTimeField(
        null=True, blank=True, help_text="when the venue first said that it has no such order"
    )
    cancel_asked_at = models.DateTimeField(null=True, blank=True, help_text="when a cancel was asked for")
    cancel_ts = models.BigIntegerField(null=True, blank=True, help_text="event time of what made us cancel, ms")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["account", "status"])]
        permissions = [("cancel_order", "Can ask for an order to be canceled")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} {self.instrument} {self.status}"


class OrderEvent(models.Model):
    """One step of an order through the state table. Append only."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    number = models.PositiveSmallIntegerField()
    event = models.CharField(max_length=20)
    status = models.CharField(max_length=16, choices=OrderStatus.choices, help_text="after the event")
    detail = models.CharField(max_length=200, blank=True)
    sequence = models.BigIntegerField(null=True, blank=True, help_text="account sequence, if it moved or freed money")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["order", "number"], name="order_event_once")]

    def __str__(self) -> str:
        return f"{self.event} -> {self.status}"


class Trade(models.Model):
    """A fill of ours. Moves position, ledger, reservation and order in one transaction, once."""

    venue = models.CharField(max_length=16)
    trade_id = models.CharField(max_length=64)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="trades")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="trades")
    position = models.ForeignKey(Position, on_delete=models.PROTECT, related_name="trades")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    sequence = models.BigIntegerField(help_text="account sequence")
    side = models.CharField(max_length=4, choices=OrderIntent.Side.choices)
    price = models.DecimalField(**PRICE)
    quantity = models.DecimalField(**QUANTITY)
    fee = models.DecimalField(**MONEY)
    fee_currency = models.CharField(max_length=16)
    ts_event = models.BigIntegerField(help_text="event time of the fill, ms")
    liquidity = models.CharField(**LIQUIDITY)
    latency_ms = models.BigIntegerField(default=0, help_text="from the trigger to the fill, event time")
    reference_price = models.DecimalField(
        **PRICE, null=True, blank=True, help_text="the quote known at the trigger, else the price that triggered"
    )
    slippage_bps = models.DecimalField(
        **BPS, null=True, blank=True, help_text="price against the reference, basis points; above zero is against us"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["venue", "trade_id"], name="trade_once")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} {self.instrument} @ {self.price.normalize():f}"


class OrderAnomaly(models.Model):
    """Something that a venue reported and that cannot be ours: kept as it came, booked nowhere."""

    class Kind(models.TextChoices):
        UNKNOWN_ORDER = "unknown_order"
        WRONG_SYMBOL = "wrong_symbol"
        WRONG_SIDE = "wrong_side"
        PRICE_OFF = "price_off"
        OVERFILL = "overfill"
        OVERSOLD = "oversold"
        CONFLICT = "conflict"
        TWICE = "twice"
        IMPOSSIBLE = "impossible"
        FORGOTTEN = "forgotten"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="order_anomalies")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, blank=True, related_name="anomalies")
    venue = models.CharField(max_length=16)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    client_order_id = models.CharField(max_length=64, blank=True, help_text="as the venue named it")
    reference = models.CharField(max_length=64, help_text="the venue's trade id, or the event that cannot be")
    words = models.CharField(max_length=300)
    payload = models.JSONField(help_text="what the venue said, as it was read")
    times = models.PositiveIntegerField(default=1, help_text="how often it was reported")
    seen_at = models.DateTimeField(auto_now_add=True)
    last_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True, default="")
    resolution = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["venue", "kind", "client_order_id", "reference"], name="order_anomaly_once")
        ]
        verbose_name_plural = "order anomalies"
        permissions = [("resolve_orderanomaly", "Can resolve an order anomaly")]

    def __str__(self) -> str:
        return f"{self.get_kind_display().lower()}: {self.reference}"


class VenueOrder(models.Model):
    """The paper venue's own record of an order that it received. No foreign key to ours: another house's book."""

    class Status(models.TextChoices):
        OPEN = "open"
        FILLED = "filled"
        CANCELED = "canceled"
        REJECTED = "rejected"
        EXPIRED = "expired"

    owner = models.CharField(max_length=32, default="", help_text="whose order it is: one for each account there")
    epoch_id = models.BigIntegerField()
    shard = models.PositiveSmallIntegerField()
    client_order_id = models.CharField(max_length=40, unique=True)
    symbol = models.CharField(max_length=20)
    instrument_id = models.BigIntegerField()
    side = models.CharField(max_length=4)
    quantity = models.DecimalField(**QUANTITY)
    limit_price = models.DecimalField(**PRICE)
    ts_trigger = models.BigIntegerField()
    ts_mature = models.BigIntegerField(help_text="event time at which it meets the quote (next), ms")
    scan_from = models.CharField(max_length=40, help_text="stream entry from which quotes are read")
    terms = models.JSONField(help_text="slippage, fee and tick that hold for this order")
    known_quote = models.JSONField(null=True, blank=True, help_text="the quote known when the order was triggered")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    reason = models.CharField(max_length=200, blank=True)
    filled_quantity = models.DecimalField(**QUANTITY, default=0)
    rested = models.BooleanField(default=False, help_text="it has waited in the book: it is a maker")
    outcome = models.CharField(max_length=20, blank=True, default="", help_text="the fault that was drawn for it")
    hidden_looks = models.PositiveSmallIntegerField(default=0, help_text="questions that still find no trace of it")
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["epoch_id", "shard"], name="venue_order_open", condition=models.Q(status="open")),
            models.Index(fields=["owner"], name="venue_order_owner_open", condition=models.Q(status="open")),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} {self.symbol} {self.status}"


class VenueTrade(models.Model):
    """The paper venue's own record of a fill, with the quote that it was made against."""

    order = models.ForeignKey(VenueOrder, on_delete=models.PROTECT, related_name="trades")
    price = models.DecimalField(**PRICE)
    quantity = models.DecimalField(**QUANTITY)
    fee = models.DecimalField(**MONEY)
    fee_currency = models.CharField(max_length=16)
    ts_event = models.BigIntegerField()
    quote = models.JSONField(help_text="bid, bid_quantity, ask, ask_quantity, ts_event of the quote in force")
    liquidity = models.CharField(**LIQUIDITY)
    latency_ms = models.BigIntegerField(default=0, help_text="from the trigger to the fill, event time")
    reference_price = models.DecimalField(**PRICE, null=True, blank=True, help_text="the side's best quote then")
    slippage_bps = models.DecimalField(
        **BPS, null=True, blank=True, help_text="price against the reference, basis points; above zero is against us"
    )
    hidden_looks = models.PositiveSmallIntegerField(default=0, help_text="questions that do not show it yet")

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} @ {self.price.normalize():f}"
