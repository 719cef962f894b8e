"""A whole road through the services and a real stream: an order that traded, and one that was denied."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import redis
from django.db import connection
from django.db.models import F

from apps.execution.models import Order, Trade
from apps.ops.explain.stream import Sources
from apps.portfolio.models import Account
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits
from apps.signals.models import Signal
from tests.factories import SessionStrategyFactory
from tests.worlds import NOW_MS, TRIGGER_MS, World, open_world, quotes, trades, watermark

T = TRIGGER_MS
MATURE = T + 150
WIDE = (5_000, 1_000_000, 5_002, 1_000_000)  # bid 0.5000, ask 0.5002, 10 000.00 on each side


@dataclass
class Chains:
    """One world with its sources of trades."""

    world: World
    client: redis.Redis
    folder: Path

    @property
    def sources(self) -> Sources:
        return Sources(self.client, self.folder / "segments", self.folder / "archive")

    def traded(self) -> Order:
        """A buy that was triggered by the trade in the stream's second entry and filled at the ask."""
        world = self.world
        world.publish(self.client, quotes((T - 5_000, 4_990, 1, 5_010, 1)), trades((T - 4_000, 5_000)))
        entry = world.publish(self.client, trades((T - 3, 4_999), (T, 5_000), ordinal=2))
        intent = world.approved(world.entry_signal(ts_event=T, trade_id=str(T), entry_id=entry))
        self.fill(intent, T)
        return Order.objects.get(intent=intent)

    def fill(self, intent: OrderIntent, ts: int) -> None:
        """Send an intent and let the venue meet the wide quote at its maturity."""
        world = self.world
        world.send(intent)
        world.publish(self.client, quotes((ts + 150, *WIDE)), watermark(ts + 1_000))
        world.reach(ts + 1_000)
        world.match(self.client, self.folder / "segments")

    def closed(self) -> Trade:
        """The same, and its position sold again by an exit."""
        order = self.traded()
        position = order.trades.get().position
        entry = self.world.publish(self.client, trades((T + 60_000, 4_900), ordinal=4))
        signal = self.world.exit_signal(
            position, ts_event=T + 60_000, entry_id=entry, trade_id=str(T + 60_000), exit_reason="stop_loss"
        )
        decision = self.world.decide(signal)
        assert decision is not None
        self.fill(decision.intents.get(), T + 60_000)
        return Trade.objects.get(order__intent__decision=decision)

    def denied(self) -> RiskDecision:
        """An entry that gross exposure does not allow, by a new version of the limits."""
        entry = self.world.publish(self.client, trades((T + 5_000, 5_000), ordinal=9))
        signal = self.world.entry_signal(ts_event=T + 5_000, trade_id=str(T + 5_000), entry_id=entry)
        self.limit(exposure_max=Decimal("0.02"))
        decision = self.world.decide(signal)
        assert decision is not None
        assert decision.verdict == RiskDecision.Verdict.DENIED, decision.sentence
        return decision

    def limit(self, **changes: Decimal) -> None:
        """A new version of the limits, also one that `risk limits set` would refuse."""
        newest = RiskLimits.objects.filter(account=self.world.account).order_by("-version")[0]
        newest.pk, newest.version, newest._state.adding = None, newest.version + 1, True
        newest.set_by, newest.reason = "oli", "a small block"
        for name, value in changes.items():
            setattr(newest, name, value)
        newest.save()
        Account.objects.filter(pk=self.world.account.pk).update(sequence=F("sequence") + 1)


def open_chains(client: redis.Redis, folder: Path) -> Chains:
    """A world whose session runs its strategy."""
    world = open_world()
    SessionStrategyFactory.create(session=world.session, version=world.version)
    return Chains(world, client, folder)


def undecided(world: World) -> Signal:
    return world.entry_signal(ts_init=NOW_MS)


def tear(table: str, sql: str, *values: int | str) -> None:
    """Change a table behind everybody's back: without its triggers, and without whoever points at its rows."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE contype = 'f' AND confrelid = %s::regclass",
            [table],
        )
        for pointing, name in cursor.fetchall():
            cursor.execute(f'ALTER TABLE {pointing} DROP CONSTRAINT "{name}"')
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(sql, values)
