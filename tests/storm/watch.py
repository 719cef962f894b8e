"""What the database itself sees at every commit: exposure stored, recomputed, and allowed.

A deferred constraint trigger runs inside each COMMIT that touched an account, a reservation, a position or a risk
state, and writes down what it found, in words of SQL that share nothing with the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

TABLES: Final = {
    "portfolio_account": "id",
    "portfolio_reservation": "account_id",
    "portfolio_position": "account_id",
    "risk_riskstate": "account_id",
}

LOOK: Final = """
CREATE TABLE storm_commit (
    account bigint, sequence bigint, stored numeric, recomputed numeric, allowed numeric, at timestamptz DEFAULT now(),
    transaction xid8 DEFAULT pg_current_xact_id(), UNIQUE (transaction, account)
);
CREATE TABLE storm_venue (
    client_order_id text PRIMARY KEY, received int, asked int, side text, quantity numeric, price numeric
);
CREATE FUNCTION storm_look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    whose bigint := (to_jsonb(NEW) ->> TG_ARGV[0])::bigint;
    state record;
    held numeric;
    promised numeric;
    cash numeric;
    share numeric;
BEGIN
    -- At the commit every firing sees the same rows: one look is enough.
    PERFORM FROM storm_commit c WHERE c.transaction = pg_current_xact_id() AND c.account = whose;
    IF FOUND THEN RETURN NULL; END IF;
    SELECT exposure, marks, sequence INTO state FROM risk_riskstate WHERE account_id = whose;
    IF NOT FOUND THEN RETURN NULL; END IF;
    SELECT COALESCE(sum(p.quantity * COALESCE((state.marks -> 'prices' ->> i.symbol)::numeric, 0)), 0) INTO held
      FROM portfolio_position p JOIN market_instrument i ON i.id = p.instrument_id
     WHERE p.account_id = whose AND p.status = 'open';
    SELECT COALESCE(sum(notional), 0) INTO promised FROM portfolio_reservation WHERE account_id = whose AND active;
    SELECT a.cash INTO cash FROM portfolio_account a WHERE a.id = whose;
    SELECT exposure_max INTO share FROM risk_risklimits WHERE account_id = whose ORDER BY version DESC LIMIT 1;
    INSERT INTO storm_commit (account, sequence, stored, recomputed, allowed)
    VALUES (whose, state.sequence, state.exposure, held + promised, share * (cash + held));
    RETURN NULL;
END $$;
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the trigger saw: how often it looked, and how often something was wrong. Shares are of the limit."""

    looks: int
    sequences: int
    differing: int
    above: int
    highest_share: float
    examples: tuple[str, ...]


def install(url: str) -> None:
    """Begin to look at every commit. The venue of the storm gets its table too."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(LOOK)
        for table, column in TABLES.items():
            connection.execute(
                f"CREATE CONSTRAINT TRIGGER storm_look AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED"
                f" FOR EACH ROW EXECUTE FUNCTION storm_look('{column}')"
            )


def seen(url: str) -> Seen:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            """SELECT count(*), count(DISTINCT sequence), count(*) FILTER (WHERE stored <> round(recomputed, 18)),
                      count(*) FILTER (WHERE recomputed > allowed), COALESCE(max(recomputed / nullif(allowed, 0)), 0)
                 FROM storm_commit"""
        ).fetchone()
        wrong = connection.execute(
            """SELECT sequence, stored, recomputed, allowed FROM storm_commit
                WHERE stored <> round(recomputed, 18) OR recomputed > allowed ORDER BY at LIMIT 3"""
        ).fetchall()
    assert row is not None
    examples = tuple(f"#{n}: stored {s:f}, recomputed {r:f}, allowed {a:f}" for n, s, r, a in wrong)
    return Seen(int(row[0]), int(row[1]), int(row[2]), int(row[3]), float(row[4]), examples)


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the storm is, and how many database sessions wait for a lock right now."""

    decided: int
    undecided: int
    waiting: int


def moment(url: str) -> Moment | None:
    """None while the database does not answer."""
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            row = connection.execute(
                """SELECT (SELECT count(*) FROM risk_riskdecision),
                          (SELECT count(*) FROM signals_signal s
                            WHERE NOT EXISTS (SELECT 1 FROM risk_riskdecision d WHERE d.signal_id = s.id)),
                          (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')"""
            ).fetchone()
    except psycopg.OperationalError:
        return None
    return Moment(*(int(value) for value in row)) if row else None
