"""What the market did and how much of it we can prove."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

from apps.staff import times

PRICE: Final[dict[str, Any]] = {"max_digits": 30, "decimal_places": 12}
QUANTITY: Final[dict[str, Any]] = {"max_digits": 36, "decimal_places": 12}
MONEY: Final[dict[str, Any]] = {"max_digits": 40, "decimal_places": 18}


class Instrument(models.Model):
    """A tradable pair of one source, with the filters that the source states.

    The source is part of the key: the same symbol of a recording and of the live exchange may differ in precision.
    """

    source = models.CharField(max_length=64, help_text="live, synthetic:<seed> or replay:<fingerprint>")
    symbol = models.CharField(max_length=20)
    base_asset = models.CharField(max_length=16)
    quote_asset = models.CharField(max_length=16)
    price_decimals = models.PositiveSmallIntegerField(help_text="one tick is 10^-n of the quote asset")
    quantity_decimals = models.PositiveSmallIntegerField(help_text="one step is 10^-n of the base asset")
    quantity_min = models.DecimalField(**QUANTITY)
    notional_min = models.DecimalField(**MONEY)
    notional_max = models.DecimalField(**MONEY)
    maker_fee = models.DecimalField(max_digits=10, decimal_places=8, help_text="fraction of the notional")
    taker_fee = models.DecimalField(max_digits=10, decimal_places=8, help_text="fraction of the notional")
    tradable = models.BooleanField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "symbol"], name="instrument_once_per_source")]
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol


class FeedEpoch(models.Model):
    """One uninterrupted identity of a feed. Keys, cursors and bars carry it, so two feeds never meet."""

    class Kind(models.TextChoices):
        LIVE = "live"
        SYNTHETIC = "synthetic"
        REPLAY = "replay"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    source = models.CharField(max_length=64)
    description = models.CharField(max_length=200, help_text="the file names of a replay, or the exchange's host")
    shard_count = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"epoch {self.pk} ({self.kind}: {self.description})"


class EpochInstrument(models.Model):
    """An instrument that an epoch follows, and the shard that owns it there."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="members")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    shard = models.PositiveSmallIntegerField()
    followed = models.BooleanField(default=True, help_text="subscribed at present; symbols come and go while running")
    why = models.CharField(max_length=200, blank=True, help_text="why it is, or is no longer, followed")
    changed_at = models.DateTimeField(auto_now=True)
    swept_minute = models.BigIntegerField(
        null=True, blank=True, help_text="last minute whose volume was compared with the exchange's klines"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "instrument"], name="instrument_once_per_epoch")]

    def __str__(self) -> str:
        return f"{self.instrument} in epoch {self.epoch_id}"


class ShardCursor(models.Model):
    """How far one shard of the stream has been read.

    `replay_from` moves in one transaction with bars and state, and correctness rests on it. `seen_through` is
    advisory: lag, sweeper and "caught up" use it. Both are stream entry ids.
    """

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="cursors")
    shard = models.PositiveSmallIntegerField()
    replay_from = models.CharField(max_length=40, default="0-0")
    replay_entries = models.BigIntegerField(default=0, help_text="entries up to and including replay_from")
    seen_through = models.CharField(max_length=40, default="0-0")
    closed_minute = models.BigIntegerField(null=True, blank=True, help_text="last minute that every symbol has closed")
    watermark_ms = models.BigIntegerField(null=True, blank=True, help_text="event time reached by every symbol")
    processed = models.BigIntegerField(default=0, help_text="trades read, as of seen_through")
    evaluated = models.BigIntegerField(default=0, help_text="trades that a warm strategy judged, as of seen_through")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "shard"], name="cursor_once_per_shard")]

    def __str__(self) -> str:
        return f"shard {self.shard} of epoch {self.epoch_id} at {self.seen_through}"


class DeadEntry(models.Model):
    """A stream entry that could not be read. Set aside with its reason, never skipped in silence."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    shard = models.PositiveSmallIntegerField()
    entry_id = models.CharField(max_length=40)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "shard", "entry_id"], name="dead_entry_once")]

    def __str__(self) -> str:
        return f"{self.entry_id}: {self.reason}"


class BarNumbers(models.Model):
    """What a bar of any length tells."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    minute = models.BigIntegerField(help_text="minutes since 1970-01-01 00:00 UTC")
    open = models.DecimalField(**PRICE)
    high = models.DecimalField(**PRICE)
    low = models.DecimalField(**PRICE)
    close = models.DecimalField(**PRICE)
    volume = models.DecimalField(**QUANTITY, help_text="base asset")
    turnover = models.DecimalField(**MONEY, help_text="quote asset: sum of price x quantity")
    count = models.PositiveIntegerField()
    first_trade_id = models.CharField(max_length=64, blank=True)
    last_trade_id = models.CharField(max_length=64, blank=True)
    hash_sum = models.BigIntegerField(help_text="sum of the 64-bit hashes of the trades, as a signed 64-bit number")

    class Meta:
        abstract = True


class Bar(BarNumbers):
    """One minute of one instrument. Empty minutes are bars too: the last close and no volume."""

    class Source(models.TextChoices):
        TRADES = "trades"
        KLINES = "klines"
        BACKFILL = "backfill"

    source = models.CharField(max_length=8, choices=Source.choices)
    revision = models.PositiveSmallIntegerField(default=0, help_text="late trades added after the minute was closed")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "instrument", "minute"], name="bar_once_per_minute")]
        ordering = ["-minute"]

    def __str__(self) -> str:
        return f"{self.instrument} {times.minute_text(self.minute)}"


class LongerBar(BarNumbers):
    """5, 15 or 60 minutes from `minute` on: at every moment what its one-minute bars are (apps.engine.bars_longer)."""

    length = models.PositiveSmallIntegerField(help_text="minutes")
    revision = models.PositiveIntegerField(default=0, help_text="revisions of its minutes")
    proven = models.PositiveSmallIntegerField(help_text="how many of its minutes are")
    backfilled = models.PositiveSmallIntegerField(help_text="how many of its minutes are")
    unproven = models.PositiveSmallIntegerField(help_text="how many of its minutes are")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "instrument", "length", "minute"], name="longer_once")]

    def __str__(self) -> str:
        return f"{self.instrument} {times.minute_text(self.minute)} ({self.length} min)"


class Gap(models.Model):
    """An interruption of one instrument's trades: neighbouring minutes that became UNPROVEN for one reason."""

    class Status(models.TextChoices):
        OPEN = "open"
        FILLED = "filled"
        PARTIAL = "partial"
        UNFILLABLE = "unfillable"

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="gaps")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    first_minute = models.BigIntegerField(help_text="minutes since 1970-01-01 00:00 UTC")
    last_minute = models.BigIntegerField(help_text="minutes since 1970-01-01 00:00 UTC")
    reason = models.CharField(max_length=100)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.OPEN)
    rows = models.PositiveIntegerField(default=0, help_text="rows that REST gave for its minutes")
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["epoch", "status"], name="gap_by_status")]

    def __str__(self) -> str:
        return f"{self.instrument} {times.minute_text(self.first_minute)}: {self.reason}"


class Coverage(models.Model):
    """A minute that is not PROVEN. A minute with a bar and without a row here is PROVEN.

    PROVEN is provisional until `EpochInstrument.swept_minute` has passed the minute.
    """

    class Status(models.TextChoices):
        BACKFILLED = "backfilled"
        UNPROVEN = "unproven"

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    minute = models.BigIntegerField(help_text="minutes since 1970-01-01 00:00 UTC")
    status = models.CharField(max_length=12, choices=Status.choices)
    reason = models.CharField(max_length=100)
    gap = models.ForeignKey(Gap, on_delete=models.PROTECT, null=True, blank=True, related_name="minutes")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="times REST was asked for this minute")
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="empty: not to be asked for again")
    detail = models.CharField(max_length=200, blank=True, help_text="what the last attempt found")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "instrument", "minute"], name="coverage_once")]
        indexes = [
            models.Index(
                fields=["epoch", "next_attempt_at"], name="coverage_to_repair", condition=models.Q(status="unproven")
            )
        ]
        verbose_name_plural = "coverage"

    def __str__(self) -> str:
        return f"{self.instrument} {times.minute_text(self.minute)} {self.status}: {self.reason}"


class IngestRun(models.Model):
    """One life of the ingest worker, told apart by its fencing token, with what it counted."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="runs")
    token = models.BigIntegerField(unique=True)
    started_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    received = models.BigIntegerField(default=0, help_text="trades that arrived in frames")
    decoded = models.BigIntegerField(default=0, help_text="trades that were valid")
    published = models.BigIntegerField(default=0, help_text="trades that reached the stream")
    dropped = models.JSONField(default=dict, help_text="reason -> count")

    def __str__(self) -> str:
        return f"ingest run {self.token}"


class FeedConnection(models.Model):
    """The last known state of one connection to the exchange."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="connections")
    name = models.CharField(max_length=40)
    state = models.CharField(max_length=20)
    reason = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField(null=True, blank=True)
    last_frame_at = models.DateTimeField(null=True, blank=True)
    last_pong_at = models.DateTimeField(null=True, blank=True)
    subscriptions = models.PositiveSmallIntegerField(default=0)
    refused = models.JSONField(default=dict, help_text="channel -> the exchange's text")
    reconnects = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "name"], name="connection_once_per_epoch")]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class FeedTransition(models.Model):
    """One change of state of one connection. Bounded history: the steward drops the oldest."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="transitions")
    entry_id = models.CharField(max_length=40, help_text="where it stood on the stream of transitions")
    token = models.BigIntegerField(help_text="of the ingest that reported it")
    connection = models.CharField(max_length=40)
    at = models.DateTimeField()
    from_state = models.CharField(max_length=20)
    to_state = models.CharField(max_length=20)
    category = models.CharField(max_length=40, help_text="the reason as one of a closed list")
    reason = models.CharField(max_length=200, blank=True)
    closed_by = models.CharField(max_length=20, blank=True, help_text="us, exchange or network")
    code = models.IntegerField(null=True, blank=True, help_text="close code of the exchange")
    age_ms = models.BigIntegerField(null=True, blank=True, help_text="of the socket")
    last_frame_age_ms = models.BigIntegerField(null=True, blank=True)
    last_pong_age_ms = models.BigIntegerField(null=True, blank=True)
    bytes_in = models.BigIntegerField(null=True, blank=True)
    subscriptions = models.PositiveSmallIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "entry_id"], name="transition_once")]
        indexes = [models.Index(fields=["epoch", "connection", "-at"], name="transition_by_connection")]
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.connection} {self.from_state} -> {self.to_state}"


class IngestLease(models.Model):
    """Who may write an epoch's stream. The ingest takes and renews it with SQL of its own (workers.ingest.lease)."""

    epoch = models.OneToOneField(FeedEpoch, on_delete=models.PROTECT, related_name="lease")
    token = models.BigIntegerField(default=0)
    holder = models.CharField(max_length=100, blank=True, help_text="host and process")
    acquired_at = models.DateTimeField(null=True, blank=True)
    renewed_at = models.DateTimeField(null=True, blank=True, help_text="empty: given back")

    def __str__(self) -> str:
        return f"lease {self.token} of epoch {self.epoch_id}"


class KlineDoubt(models.Model):
    """A minute whose volume differs from the exchange's kline. It becomes UNPROVEN through the stream."""

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT)
    minute = models.BigIntegerField(help_text="minutes since 1970-01-01 00:00 UTC")
    ours = models.DecimalField(**QUANTITY)
    theirs = models.DecimalField(**QUANTITY)
    found_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="when the ledger had taken it in")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "instrument", "minute"], name="kline_doubt_once")]

    def __str__(self) -> str:
        return f"{self.instrument} {times.minute_text(self.minute)}: {self.ours} here, {self.theirs} there"


class ScreenerRule(models.Model):
    """How the symbols to follow are chosen. Immutable; the newest row is in force."""

    class Mode(models.TextChoices):
        FIXED = "fixed"
        TURNOVER = "turnover"
        MOVEMENT = "movement"

    mode = models.CharField(max_length=12, choices=Mode.choices)
    count = models.PositiveSmallIntegerField(default=0, help_text="how many to follow; the fixed list ignores it")
    quote_asset = models.CharField(max_length=16)
    turnover_min = models.DecimalField(**MONEY, default=0, help_text="24 h turnover below which none is chosen")
    always = models.JSONField(default=list, help_text="symbols that are followed whatever their rank")
    never = models.JSONField(default=list, help_text="symbols that are never followed")
    refresh_minutes = models.PositiveIntegerField(default=60)
    author = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.mode} {self.count or len(self.always)} ({self.quote_asset})"


class ScreenerRun(models.Model):
    """One choice of symbols with what it was made on."""

    rule = models.ForeignKey(ScreenerRule, on_delete=models.PROTECT, related_name="runs")
    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT)
    at = models.DateTimeField(auto_now_add=True)
    considered = models.PositiveIntegerField()
    rows = models.JSONField(help_text="per symbol near the choice: rank, turnover, movement, verdict and why")
    added = models.JSONField(default=list)
    removed = models.JSONField(default=list)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"choice of {self.at:%Y-%m-%d %H:%M}"


class ArchivedShard(models.Model):
    """How far the archive has followed one shard, and what stopped it last. For people: the archive keeps its own
    position with its files, so that both are lost or restored together.
    """

    epoch = models.ForeignKey(FeedEpoch, on_delete=models.PROTECT, related_name="archived_shards")
    shard = models.PositiveSmallIntegerField()
    archived_through = models.CharField(max_length=40, default="0-0", help_text="stream entry id")
    trades = models.BigIntegerField(default=0, help_text="written so far")
    quotes = models.BigIntegerField(default=0, help_text="written so far")
    moved_at = models.DateTimeField(null=True, blank=True, help_text="when something was written last")
    failures = models.PositiveIntegerField(default=0, help_text="attempts in a row that failed")
    error = models.CharField(max_length=300, blank=True, help_text="what stopped the last attempt")
    failed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "shard"], name="archived_shard_once")]

    def __str__(self) -> str:
        return f"shard {self.shard} of epoch {self.epoch_id} archived through {self.archived_through}"
