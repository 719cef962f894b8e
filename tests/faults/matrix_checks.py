"""What must hold after every row of the fault matrix, asked of PostgreSQL in plain SQL.

These are the quick ones, for every row; `manage.py verify` derives everything again once per road.
"""

from __future__ import annotations

from typing import Final

from tests.faults.matrix_road import Road

# name -> (how much is compared, rows that are wrong)
CHECKS: Final[dict[str, tuple[str, str]]] = {
    "I4 one signal per trigger": (
        "SELECT count(*) FROM signals_signal",
        "SELECT trigger_key FROM signals_signal GROUP BY session_id, book, trigger_key HAVING count(*) > 1",
    ),
    "I4 one decision per signal": (
        "SELECT count(*) FROM risk_riskdecision",
        "SELECT signal_id FROM risk_riskdecision GROUP BY signal_id, book HAVING count(*) > 1",
    ),
    "I4 one intent per approval": (
        "SELECT count(*) FROM risk_riskdecision",
        """SELECT d.id FROM risk_riskdecision d LEFT JOIN risk_orderintent i ON i.decision_id = d.id
            GROUP BY d.id, d.verdict HAVING count(i.id) <> CASE d.verdict WHEN 'approved' THEN 1 ELSE 0 END""",
    ),
    "I5 the venue has what was decided, once": (
        "SELECT count(*) FROM execution_venueorder",
        """SELECT v.client_order_id FROM execution_venueorder v
             LEFT JOIN risk_orderintent i ON i.client_order_id = v.client_order_id
             LEFT JOIN risk_riskdecision d ON d.id = i.decision_id AND d.verdict = 'approved'
            GROUP BY v.client_order_id HAVING count(*) <> 1 OR count(d.id) <> 1""",
    ),
    "I6 no fill is booked twice or lost": (
        "SELECT count(*) FROM execution_trade",
        """SELECT p.id FROM portfolio_position p LEFT JOIN execution_trade t ON t.position_id = p.id
            GROUP BY p.id, p.quantity
           HAVING p.quantity <> COALESCE(sum(CASE t.side WHEN 'BUY' THEN t.quantity ELSE -t.quantity END), 0)""",
    ),
    "I6 ledger legs add up to zero": (
        "SELECT count(*) FROM portfolio_ledgerentry",
        "SELECT reference FROM portfolio_ledgerentry GROUP BY account_id, reference, currency HAVING sum(amount) <> 0",
    ),
    "I7 stored exposure is the recomputed one": (
        "SELECT count(*) FROM risk_riskstate",
        """SELECT s.exposure FROM risk_riskstate s WHERE s.exposure <> round(
             COALESCE((SELECT sum(p.quantity * COALESCE((s.marks -> 'prices' ->> i.symbol)::numeric, 0))
               FROM portfolio_position p JOIN market_instrument i ON i.id = p.instrument_id
              WHERE p.account_id = s.account_id AND p.status = 'open'), 0)
           + COALESCE((SELECT sum(notional) FROM portfolio_reservation r
              WHERE r.account_id = s.account_id AND r.active), 0), 18)""",
    ),
}
MAY_BE_EMPTY: Final = frozenset({"I5 the venue has what was decided, once", "I6 no fill is booked twice or lost"})


class Observer:
    """Remembers where the cursors stood: they never go back (I1)."""

    def __init__(self) -> None:
        self._cursors: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def faults(self, road: Road) -> list[str]:
        """What does not hold now, in words."""
        found = [f"{name}: {rows[:3]}" for name, (_, wrong) in CHECKS.items() if (rows := road.sql(wrong))]
        nothing = [name for name, (count, _) in CHECKS.items() if not road.one(count)]
        found += [f"{name}: nothing was compared" for name in nothing if name not in MAY_BE_EMPTY]
        for shard, replay_from, seen in road.sql("SELECT shard, replay_from, seen_through FROM market_shardcursor"):
            here = _position(replay_from), _position(seen)
            before = self._cursors.get(shard, here)
            if here[0] < before[0] or here[1] < before[1]:
                found.append(f"I1: the cursor of shard {shard} went back from {before} to {here}")
            self._cursors[shard] = here
        return found


def _position(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))
