"""Exits on real servers: neither late fills nor restarts nor failed attempts change where one is found."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from apps.engine.events import TradeBlock
from apps.engine.exit_kernel import trailing_parts
from apps.engine.strategies import STRATEGIES
from apps.engine.strategies.parameters import validate
from apps.portfolio.models import Account, Position
from apps.portfolio.services import exit_failed, save_account
from apps.signals.models import ExitWatch, Signal, StrategyCall
from apps.signals.services import drain
from tests import factories
from tests.engine.believing import Plan
from tests.engine.market_stream import Entry, Print, make_prints, quote_block, to_entries
from tests.signals.shards import SYMBOLS, ShardWorld, open_shards

pytestmark = pytest.mark.django_db(transaction=True)

SYMBOL = "AAAUSDT"
LATENCY_MS = 150
MINUTES = 60
FRAMES_MS = (5_000, 20_000, 60_000)
OPENS_AFTER = 5  # minutes
FAR = Decimal("0.0001"), Decimal(1_000_000)  # a stop and a target that no price reaches


def quoted_market(seed: int, *, wild: bool = False) -> tuple[list[Print], list[Entry]]:
    """Trades, some of them wild, and before each block of them a quote around its first price."""
    prints = make_prints(seed, symbols=SYMBOLS, minutes=MINUTES)
    prints = with_wild_prints(prints, random.Random(seed)) if wild else prints
    entries = to_entries(prints, seed, frame_ms=FRAMES_MS)
    for _, events in entries:
        for block in [event for event in events if isinstance(event, TradeBlock)]:
            price = block.price[0]
            events.insert(0, quote_block(block.symbol, (block.ts_event[0] - 1, price - 1, 100, price + 1, 100)))
    return prints, entries


def with_wild_prints(prints: list[Print], dice: random.Random) -> list[Print]:
    """After one trade in six there are one to three more, a second apart, at a price far away."""
    rows = list(prints)
    for row in prints:
        if dice.random() < 1 / 6:
            price = int(row.price * dice.choice((0.01, 0.8, 1.2, 50)))
            rows += [
                replace(row, ts_event=row.ts_event + 999 * n, price=price + n) for n in range(dice.choice((1, 2, 2, 3)))
            ]
    rows.sort(key=lambda row: row.ts_event)
    return [replace(row, trade_id=str(1_000 + number)) for number, row in enumerate(rows)]


@dataclass
class Run:
    """One life of a shard with one position: when its fill becomes known, when processes die, when an exit fails."""

    world: ShardWorld
    dice: random.Random
    fields: dict[str, Any]
    known_after: int
    failures: int = 0
    position: Position | None = None
    exits: list[tuple[Any, ...]] = field(default_factory=list)

    def live(self, entries: list[Entry]) -> list[tuple[Any, ...]]:
        published = 0
        while published < len(entries):
            count = self.dice.randrange(1, 25)
            self.world.publish(entries[published : published + count])
            published += count
            if self.position is None and published >= self.known_after:
                self.position = factories.PositionFactory.create(account=self.world.account, **self.fields)
                self._changed()
            if self.dice.random() < 0.3:
                drain.forget()
            self.world.drain_all()
            self._note(fail=self.dice.random() < 0.5)
        self.world.drain_all()
        while self._note(fail=True):
            self.world.drain_all()
        return self.exits

    def _note(self, *, fail: bool) -> bool:
        """An exit that was found has ended without a fill, and that has become known. Whether there was one."""
        if self.position is None or not fail:
            return False
        self.position.refresh_from_db()
        found = Signal.objects.filter(trigger_key=f"x:{self.position.pk}:{self.position.exit_attempts}").first()
        if found is None or len(self.exits) > self.failures:
            return False
        self.exits.append(
            (
                found.exit_reason,
                found.ts_event,
                found.trade_id,
                found.price,
                found.confirmed_price,
                found.bid,
                found.ask,
                found.quote_ts,
            )
        )
        if len(self.exits) <= self.failures:
            account = Account.objects.get(pk=self.world.account.pk)
            exit_failed(account=account, position=self.position, not_before_ms=found.ts_event + LATENCY_MS + 1)
            save_account(account)
        return True

    def _changed(self) -> None:
        account = Account.objects.get(pk=self.world.account.pk)
        account.portfolio_epoch += 1
        save_account(account)


def instrument_of(world: ShardWorld) -> Any:
    return world.epoch.members.get(instrument__symbol=SYMBOL).instrument


def position_fields(world: ShardWorld, opened: Print, trigger_entry: str, **changes: Any) -> dict[str, Any]:
    price = Decimal(opened.price).scaleb(-4)
    return {
        "instrument": instrument_of(world),
        "entry_price": price,
        "opened_ts": opened.ts_event,
        "due_ts": opened.ts_event + 45 * 60_000,
        "stop_price": price * Decimal("0.95"),
        "target_price": Decimal(0),
        "trailing_stop_pct": Decimal("0.4"),
        "trigger_entry": trigger_entry,
        "strategy_version_id": world.session.strategies.get().version_id,
        **changes,
    }


@pytest.mark.parametrize("seed", range(5))
def test_late_fills_restarts_and_late_news_of_failed_exits_change_no_exit(tools: drain.Tools, seed: int) -> None:
    """Two attempts fail, the third is the last that is looked at; the stop trails the highest price all the while."""
    prints, entries = quoted_market(seed)
    own = [row for row in prints if row.symbol == SYMBOL]
    opened = next(row for row in own if row.ts_event > prints[0].ts_event + OPENS_AFTER * 60_000)
    trigger = next(
        number for number, (_, events) in enumerate(entries)
        if any(opened.trade_id in getattr(event, "trade_id", ()) for event in events)
    )  # fmt: skip
    lives = []
    for life in range(3):
        drain.forget()
        world = open_shards(tools, shard_count=1)
        dice = random.Random(100 * seed + life)
        known_after = trigger + dice.choice((1, 10, len(entries) - trigger))
        fields = position_fields(world, opened, entries[trigger][0])
        lives.append(Run(world, dice, fields, known_after, failures=2).live(entries))
    assert lives[0] == lives[1] == lives[2]
    assert len(lives[0]) == 3
    assert lives[0][0][0] == Signal.ExitReason.TRAILING_STOP


def plain_exits(position: Plan, trades: list[Print], end_ms: int) -> list[Any]:
    """An exit and the two after it if it fails: (reason, event time, trade id, ticks, confirmed ticks)."""
    found: list[Any] = []
    while len(found) < 3:
        ending = position.ending([(row.ts_event, row.price) for row in trades], end_ms=end_ms)
        if ending is None:
            return found
        name = "" if ending.number is None else trades[ending.number].trade_id
        found.append((ending.reason, ending.ts, name, ending.price, ending.counts))
        retry = ending.ts + LATENCY_MS + 1
        position = replace(position, retry_ts=retry, due_ts=max(position.due_ts, retry))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_wild_prints_close_nothing_through_restarts_and_failed_exits(tools: drain.Tools, seed: int) -> None:
    prints, entries = quoted_market(seed, wild=True)
    own = [row for row in prints if row.symbol == SYMBOL]
    opened = own[20]
    trigger = next(
        number for number, (_, events) in enumerate(entries)
        if any(opened.trade_id in getattr(event, "trade_id", ()) for event in events)
    )  # fmt: skip
    world = open_shards(tools, shard_count=1)
    dice = random.Random(seed)
    fields = position_fields(world, opened, entries[trigger][0], trailing_stop_pct=Decimal(3))
    found = Run(world, dice, fields, trigger + dice.choice((1, 20)), failures=2).live(entries)
    plan = Plan(
        opened.price, opened.ts_event, opened.price * 95 // 100, 0, trailing_parts(Decimal(3)), fields["due_ts"]
    )
    shown = [(*row[:3], int(row[3] * 10**4), int(row[4] * 10**4)) for row in found]
    assert shown == plain_exits(plan, own, prints[-1].ts_event)
    assert shown


def test_the_highest_price_is_part_of_the_checkpoint(tools: drain.Tools) -> None:
    prints, entries = quoted_market(1)
    world = open_shards(tools, shard_count=1)
    opened = next(row for row in prints if row.symbol == SYMBOL)
    stop, target = FAR
    fields = position_fields(world, opened, "1-0", stop_price=stop, target_price=target, trailing_stop_pct=0)
    Run(world, random.Random(1), {**fields, "due_ts": 10**15}, 1).live(entries)
    later = [row.price for row in prints if row.symbol == SYMBOL and row.ts_event > opened.ts_event]
    watch = ExitWatch.objects.get()
    assert (watch.high, watch.last_price) == (max(later), later[-1])


# --- exit signals of a strategy ---------------------------------------------------------------------------------------


def reverting_shards(tools: drain.Tools) -> ShardWorld:
    """A shard whose session runs mean reversion with bounds so narrow that it trades often."""
    world = open_shards(tools, shard_count=1)
    module = STRATEGIES["mean_reversion"]
    given = {"window_minutes": 10, "entry_deviations": 1, "rsi_max": 100, "cooldown_minutes": 0}
    version = factories.StrategyVersionFactory.create(
        strategy=factories.StrategyFactory.create(name=module.name),
        parameters=validate(module.parameters, given),
        engine_hash=tools.engine_hash,
    )
    world.session.strategies.update(version=version)
    return world


def opened_by(world: ShardWorld, signal: Signal, **changes: Any) -> dict[str, Any]:
    price = int(signal.price * 10**4)
    opened = Print(signal.ts_event + LATENCY_MS, SYMBOL, price, 1, 1, signal.trade_id)
    stop, target = FAR
    return position_fields(
        world, opened, signal.entry_id,
        stop_price=stop, target_price=target, trailing_stop_pct=0, due_ts=10**15, **changes,
    )  # fmt: skip


def test_an_exit_signal_of_its_strategy_closes_a_position_whenever_its_fill_becomes_known(tools: drain.Tools) -> None:
    _, entries = quoted_market(2)
    world = reverting_shards(tools)
    world.publish(entries)
    world.drain_all()
    entry = Signal.objects.filter(instrument__symbol=SYMBOL).earliest("ts_event")
    calls = StrategyCall.objects.filter(instrument__symbol=SYMBOL, ts_event__gt=entry.ts_event + LATENCY_MS)
    call = calls.earliest("ts_event")
    expected = (Signal.ExitReason.EXIT_SIGNAL, call.ts_event, call.trade_id, call.price)
    for seed, known_after in enumerate((1, 60, len(entries))):
        drain.forget()
        again = reverting_shards(tools)
        fields = opened_by(again, entry)
        (found,) = Run(again, random.Random(seed), fields, known_after).live(entries)
        assert found[:4] == expected
        assert found[-1] is not None


@pytest.mark.parametrize(
    ("what", "changes"),
    [("opened on the trade of the signal", {}), ("that does not listen", {"exit_on_signal": False})],
)
def test_an_exit_signal_leaves_a_position_alone(tools: drain.Tools, what: str, changes: dict[str, Any]) -> None:
    _, entries = quoted_market(2)
    world = reverting_shards(tools)
    world.publish(entries)
    world.drain_all()
    newest = StrategyCall.objects.filter(instrument__symbol=SYMBOL).latest("ts_event")
    opened_ts = newest.ts_event if not changes else newest.ts_event - 1
    entry = Signal.objects.filter(instrument__symbol=SYMBOL).earliest("ts_event")
    drain.forget()
    again = reverting_shards(tools)
    fields = {**opened_by(again, entry, **changes), "opened_ts": opened_ts}
    assert Run(again, random.Random(1), fields, 1).live(entries) == [], what


def test_another_strategys_exit_signal_closes_nothing(tools: drain.Tools) -> None:
    _, entries = quoted_market(2)
    world = reverting_shards(tools)
    world.publish(entries[:30])
    world.drain_all()
    opened = next(row for row in quoted_market(2)[0] if row.symbol == SYMBOL)
    stop, target = FAR
    other = factories.StrategyVersionFactory.create()
    fields = position_fields(
        world, opened, "1-0", stop_price=stop, target_price=target, trailing_stop_pct=0, due_ts=10**15,
        strategy_version_id=other.pk,
    )  # fmt: skip
    assert Run(world, random.Random(3), fields, 1).live(entries[30:]) == []
    assert StrategyCall.objects.exists()
