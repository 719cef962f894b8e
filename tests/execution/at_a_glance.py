"""An account's books in one query, added up by the database in words that share nothing with the code under test."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db import connection

D = Decimal
ENDED: Final = frozenset({"DENIED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"})

# Numbers leave as text: JSON would make floats of them.
LOOK: Final = """
WITH ours AS (SELECT %s::bigint AS id),
positions AS (
    SELECT p.id, p.exit_attempts, p.quantity, p.status, i.symbol,
           COALESCE((SELECT sum(CASE t.side WHEN 'BUY' THEN t.quantity ELSE -t.quantity END)
                       FROM execution_trade t WHERE t.position_id = p.id), 0) AS traded
      FROM portfolio_position p JOIN market_instrument i ON i.id = p.instrument_id, ours
     WHERE p.account_id = ours.id
),
orders AS (
    SELECT o.id, o.client_order_id, o.status, o.quantity, o.filled_qty, o.leaves_qty, d.verdict,
           COALESCE((SELECT sum(t.quantity) FROM execution_trade t WHERE t.order_id = o.id), 0) AS traded
      FROM execution_order o JOIN risk_orderintent n ON n.id = o.intent_id JOIN risk_riskdecision d
        ON d.id = n.decision_id, ours
     WHERE o.account_id = ours.id
),
promises AS (
    SELECT client_order_id, notional FROM portfolio_reservation, ours WHERE account_id = ours.id AND active
)
SELECT json_build_object(
    'cash', a.cash::text, 'exposure', s.exposure::text, 'trading_state', s.trading_state,
    'recomputed', round(
        COALESCE((SELECT sum(quantity * COALESCE((s.marks -> 'prices' ->> symbol)::numeric, 0)) FROM positions), 0)
        + COALESCE((SELECT sum(notional) FROM promises), 0), 18)::text,
    'cash_legs', (SELECT COALESCE(sum(amount), 0)::text FROM portfolio_ledgerentry
                   WHERE account_id = a.id AND kind = 'cash'),
    'uneven', (SELECT COALESCE(json_agg(reference), '[]') FROM (
        SELECT reference FROM portfolio_ledgerentry WHERE account_id = a.id
         GROUP BY reference, currency HAVING sum(amount) <> 0) legs),
    'positions', (SELECT COALESCE(json_agg(json_build_array(id, exit_attempts, quantity::text, traded::text, status)
                    ORDER BY id), '[]') FROM positions),
    'orders', (SELECT COALESCE(json_agg(json_build_array(client_order_id, status, quantity::text, filled_qty::text,
                      leaves_qty::text, traded::text, verdict, id)), '[]') FROM orders),
    'promises', (SELECT COALESCE(json_agg(client_order_id), '[]') FROM promises),
    'anomalies', (SELECT count(*) FROM execution_orderanomaly WHERE account_id = a.id))
  FROM portfolio_account a JOIN risk_riskstate s ON s.account_id = a.id, ours
 WHERE a.id = ours.id
"""


@dataclass(frozen=True, slots=True)
class Glance:
    """`orders` gives status and filled quantity by client_order_id, `ids` their keys, `promises` whose reservations are
    active, `open` the open positions with their failed exits. `held` is in base units of all symbols together."""

    cash: Decimal
    exposure: Decimal
    trading_state: str
    held: Decimal
    open: tuple[tuple[int, int], ...]
    orders: dict[str, tuple[str, Decimal]]
    ids: dict[str, int]
    promises: frozenset[str]
    anomalies: int


def books_at_a_glance(account_id: int) -> Glance:
    """Read it all and check it against itself: I5, I6, I7, and that a reservation lives as long as its order."""
    found = _read(account_id)
    assert found["uneven"] == []
    cash, exposure = D(found["cash"]), D(found["exposure"])
    assert cash == D(found["cash_legs"])
    assert exposure == D(found["recomputed"]), (exposure, found["recomputed"])
    held = D(0)
    for _, _, quantity, traded, status in found["positions"]:
        assert D(quantity) == D(traded) >= 0
        assert (status == "open") is (D(quantity) > 0)
        held += D(quantity)
    promises = frozenset(found["promises"])
    orders = {row[0]: _order(row, promises) for row in found["orders"]}
    still_open = tuple((row[0], row[1]) for row in found["positions"] if row[4] == "open")
    ids = {row[0]: row[7] for row in found["orders"]}
    return Glance(cash, exposure, found["trading_state"], held, still_open, orders, ids, promises, found["anomalies"])


def _order(row: list[Any], promises: frozenset[str]) -> tuple[str, Decimal]:
    name, status, quantity, filled, leaves, traded, verdict = row[:7]
    assert D(filled) == D(traded) == D(quantity) - D(leaves), row
    assert (name in promises) is (status not in ENDED), row
    assert verdict == "approved"
    return status, D(filled)


def _read(account_id: int) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [account_id])
        row = cursor.fetchone()
    assert row is not None
    found: dict[str, Any] = row[0]
    return found
