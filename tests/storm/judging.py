"""What must hold after the storm, each with how much was compared."""

from __future__ import annotations

import statistics

from django.db.models import Count, Max

from apps.engine.orders import ENDED
from apps.execution.models import Order
from apps.ops.verify import money_checks
from apps.ops.verify.result import Check
from apps.portfolio.models import Account
from apps.risk.models import RiskDecision, RiskState, TradingState
from apps.signals.models import Signal
from tests.storm import watch
from tests.storm.run import Force, Outcome
from tests.worlds import World


def judge(world: World, force: Force, outcome: Outcome, url: str) -> list[Check]:
    return [
        _commits(watch.seen(url)),
        _force(force, outcome),
        _decisions(world),
        _orders(world, url),
        money_checks.check_decisions(world.session),
        money_checks.check_money(world.session),
        money_checks.check_exposure(world.session),
    ]


def _commits(seen: watch.Seen) -> Check:
    words = f"stored = recomputed <= limit; the highest was {seen.highest_share:.2%} of the limit"
    check = Check("every commit", words)
    check.compared = seen.looks
    if seen.differing or seen.above:
        check.faults = [f"{seen.differing} differ, {seen.above} are above the limit", *seen.examples]
    check.expect(seen.highest_share > 0.9, f"the limit was never near: {seen.highest_share:.2%}")
    return check


def _force(force: Force, outcome: Outcome) -> Check:
    """That it was a storm: as many kills and restarts as asked for, and sessions that had to wait for each other."""
    median = statistics.median(outcome.lock_ms) if outcome.lock_ms else 0.0
    check = Check("force", "kills, restarts and contention as asked for")
    check.expect(outcome.kills_in_decision >= force.kills, f"only {outcome.kills_in_decision} kills in the decision")
    check.expect(sum(outcome.restarts.values()) == force.restarts, f"only {dict(outcome.restarts)} restarts")
    check.expect(
        median > 2 * outcome.idle_lock_ms, f"no contention: median {median:.2f} ms, idle {outcome.idle_lock_ms:.2f} ms"
    )
    return check


def _decisions(world: World) -> Check:
    check = Check("decisions", "each signal has one decision, and the account went on trading")
    for row in Signal.objects.filter(session=world.session).annotate(n=Count("decisions")).values("id", "n"):
        check.expect(row["n"] == 1, f"signal {row['id']} has {row['n']} decisions")
    state = RiskState.objects.get(account=world.account)
    check.expect(state.trading_state == TradingState.ACTIVE, f"{state.trading_state}: {state.state_reason}")
    last = RiskDecision.objects.filter(account=world.account).aggregate(last=Max("sequence"))["last"]
    account = Account.objects.get(pk=world.account.pk)
    check.expect(account.sequence >= (last or 0) > 0, f"sequence {account.sequence} is behind {last}")
    return check


def _orders(world: World, url: str) -> Check:
    """One order per approval, each sent at most once, and all have ended."""
    import psycopg

    check = Check("orders", "each approval has one order, sent at most once, and each order has ended")
    approved = RiskDecision.objects.filter(signal__session=world.session, verdict=RiskDecision.Verdict.APPROVED)
    for row in approved.annotate(n=Count("intents__order")).values("id", "n"):
        check.expect(row["n"] == 1, f"decision {row['id']} has {row['n']} orders")
    ended = [status.value for status in ENDED]
    left = Order.objects.filter(account=world.account).exclude(status__in=ended).count()
    check.expect(left == 0, f"{left} orders have not ended")
    with psycopg.connect(url) as connection:
        received: dict[str, int] = dict(
            connection.execute("SELECT client_order_id, received FROM storm_venue").fetchall()
        )
    ours = set(Order.objects.values_list("client_order_id", flat=True))
    for name, times in received.items():
        check.expect(times == 1, f"{name} was sent {times} times")
        check.expect(name in ours, f"{name} is known to the venue and not to us")
    return check
