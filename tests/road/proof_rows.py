"""What a session signalled, decided and filled, beside simulations of the same trades: line by line, byte by byte.

Run in a stack's data directory: `python -m tests.road.proof_rows --session N --day DATE --trades FILE ...` prints one
JSON object. A line holds every figure of its row in full; what a row is called by the database is no part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from apps.engine.desk.account import DeskDecision, DeskEnd
    from apps.engine.model import Scale
    from apps.engine.results import Result, SimulatedSignal
    from apps.portfolio.models import Account
    from apps.signals.models import Signal

OF_THE_STACK: Final = ("LEASE", "VERSION", "HEARTBEAT", "RECON", "STALE_FEED", "STALE_SIGNAL")
KINDS: Final = ("entries", "signals", "decisions", "fills")
Rows = dict[str, list["Row"]]
"""By kind: signals by event time (entries are some of them), decisions and ends of orders in the account's order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line before it is written. `place` is what its list is in order of."""

    place: tuple[int, str]
    key: str
    ts_event: int
    values: Mapping[str, Any]

    @property
    def line(self) -> str:
        return json.dumps({"key": self.key, "ts_event": self.ts_event, **self.values}, sort_keys=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.road.proof_rows")
    parser.add_argument("--session", type=int, required=True)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--trades", nargs="+", type=Path, required=True)
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    import django

    django.setup()
    print(json.dumps(laid_beside(options.session, options.day, options.trades)))
    return 0


def laid_beside(session: int, day: date, trades: Sequence[Path]) -> dict[str, Any]:
    """Every comparison, with counts, digests and the first line that differs."""
    from django.conf import settings

    from apps.backtest.history import account_on, told_until
    from apps.backtest.services.whatif import setup_of_session, simulated_day
    from apps.backtest.simulating import simulate
    from apps.backtest.slicing import whole_minutes
    from apps.engine.desk.book import DAY_MS
    from apps.engine.model import Scale
    from apps.market.archive.keeping import key_of
    from apps.market.archive.layout import Folder, day_start_ms
    from apps.market.archive.reading import slices_of
    from apps.market.archive.recordings import read_recording

    first_ms = day_start_ms(day.isoformat())
    account = account_on(first_ms, first_ms + DAY_MS, session)
    assert account is not None, f"session {session} has no account"
    history = lines_of_history(account)
    recording = read_recording(list(trades))
    setup = setup_of_session(account, recording.instruments, {})
    scales = {
        symbol: Scale(spec.price_decimals, spec.quantity_decimals) for symbol, spec in recording.instruments.items()
    }
    told = told_until(account, first_ms + DAY_MS)

    def of_the_file(*, as_told: bool) -> Result:
        parts = slices_of(recording, symbols=sorted(recording.symbols), from_ms=0, to_ms=first_ms + DAY_MS)
        done = simulate(setup, whole_minutes(parts), told=told if as_told else None)
        assert done is not None
        return done.result

    archived = simulated_day(account, Folder(settings.ARCHIVE_DIR, key_of(account.session.epoch)), {}, day)
    assert archived is not None
    alone = of_the_file(as_told=False)
    return {
        "trades": alone.trades,
        "decision_hash": alone.decision_hash,
        "file": compared(history, lines_of(of_the_file(as_told=True), scales)),
        "archive": compared(history, lines_of(archived.result, scales)),
        "alone": compared(_in_event_time(history), _in_event_time(lines_of(alone, scales))),
    }


# --- comparing --------------------------------------------------------------------------------------------------------


def compared(live: Rows, simulated: Rows) -> dict[str, Any]:
    return {kind: _beside([row.line for row in live[kind]], [row.line for row in simulated[kind]]) for kind in KINDS}


def _beside(live: list[str], simulated: list[str]) -> dict[str, Any]:
    pairs = zip([*live, *[""] * len(simulated)], [*simulated, *[""] * len(live)], strict=True)
    first = next(((was, would) for was, would in pairs if was != would), None)
    return {
        "live": len(live),
        "simulated": len(simulated),
        "same": len(set(live) & set(simulated)),
        "equal": live == simulated,
        "digests": [_digest(live), _digest(simulated)],
        "difference": first,
    }


def _digest(lines: list[str]) -> str:
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def _in_event_time(rows: Rows) -> Rows:
    """Without the checks that look at a wall clock or at the stack's processes, which a backtest has none of."""
    kept = {kind: [_ageless(row) for row in found] for kind, found in rows.items()}
    return {kind: sorted(found, key=lambda row: (row.ts_event, row.key)) for kind, found in kept.items()}


def _ageless(row: Row) -> Row:
    if "checks" not in row.values:
        return row
    checks = [check for check in row.values["checks"] if check["code"] not in OF_THE_STACK]
    return replace(row, values={**row.values, "checks": checks})


# --- what was ---------------------------------------------------------------------------------------------------------


def lines_of_history(account: Account) -> Rows:
    """Everything that the session's account did, from the rows that live trading wrote."""
    from apps.risk.models import OrderIntent
    from apps.signals.models import Signal

    intents = OrderIntent.objects.filter(account=account)
    opened = dict(intents.values_list("client_order_id", "decision__signal__trigger_key"))
    signals = Signal.objects.filter(session=account.session, book=account.book)
    rows = list(signals.select_related("instrument", "position"))
    keys = {row.pk: _key_of(row, opened) for row in rows}
    found = [Row((row.ts_event, keys[row.pk]), keys[row.pk], row.ts_event, _signal(row)) for row in rows]
    return {
        **_signals(found),
        "decisions": list(_decisions(account, keys)),
        "fills": sorted(_ends(account, keys), key=lambda row: row.place),
    }


def _key_of(signal: Signal, opened: Mapping[str, str]) -> str:
    """An exit is named by the entry of its position, for a simulation gives its positions other numbers."""
    if signal.position is None:
        return signal.trigger_key
    return f"x:{opened[signal.position.opened_by]}:{signal.trigger_key.rpartition(':')[2]}"


def _signal(row: Signal) -> dict[str, Any]:
    figures = (row.change, row.rsi, row.turnover)
    return {
        "kind": row.kind,
        "reason": row.exit_reason,
        "trade_id": row.trade_id,
        "price": _exact(row.price),
        "figures": [figure.hex() for figure in figures if figure is not None],
        "bid": _exact(row.bid),
        "bid_quantity": _exact(row.bid_quantity),
        "ask": _exact(row.ask),
        "ask_quantity": _exact(row.ask_quantity),
        "median": _exact(row.median_price),
    }


def _decisions(account: Account, keys: Mapping[int, str]) -> Iterator[Row]:
    from apps.risk.models import OrderIntent, RiskDecision

    intents = {row.decision_id: row for row in OrderIntent.objects.filter(account=account)}
    for row in RiskDecision.objects.filter(account=account).order_by("sequence"):
        intent = intents.get(row.pk)
        values = {
            "verdict": row.verdict,
            "reasons": row.reasons,
            "checks": row.checks,
            "equity": _exact(row.equity),
            "exposure_before": _exact(row.exposure_before),
            "exposure_after": _exact(row.exposure_after),
            "marks": row.marks,
            "order": None if intent is None else [intent.side, _exact(intent.quantity), _exact(intent.limit_price)],
        }
        yield Row((row.sequence, ""), keys[row.signal_id], row.ts_event, values)


def _ends(account: Account, keys: Mapping[int, str]) -> Iterator[Row]:
    """Fills, and orders that ended without one."""
    from apps.execution.models import OrderEvent, Trade

    signal = "order__intent__decision__signal_id"
    for row in Trade.objects.filter(account=account).select_related("order__intent__decision"):
        values = _fill(row.side, row.price, row.quantity, row.fee, row.fee_currency)
        yield Row((row.sequence, ""), keys[row.order.intent.decision.signal_id], row.ts_event, values)
    unfilled = OrderEvent.objects.filter(order__account=account, sequence__isnull=False, order__trades__isnull=True)
    for sequence, pk, ts_event in unfilled.values_list("sequence", signal, "order__ts_event"):
        yield Row((sequence, ""), keys[pk], ts_event, {"unfilled": True})


def _fill(side: str, price: Decimal, quantity: Decimal, fee: Decimal, currency: str) -> dict[str, Any]:
    told = {"price": _exact(price), "quantity": _exact(quantity), "fee": _exact(fee)}
    return {"side": str(side), "fee_currency": currency, **told}


def _signals(found: list[Row]) -> Rows:
    rows = sorted(found, key=lambda row: row.place)
    return {"signals": rows, "entries": [row for row in rows if row.values["kind"] == "entry"]}


def _exact(value: Decimal | None) -> str | None:
    """Equal for equal values, however many zeros a column adds."""
    from apps.engine.risk.words import plain

    return None if value is None else plain(value)


# --- what a simulation says -------------------------------------------------------------------------------------------


def lines_of(result: Result, scales: Mapping[str, Scale]) -> Rows:
    """The same of a simulation."""
    signals = [
        Row((row.ts_event, row.key), row.key, row.ts_event, _simulated_signal(row, scales[row.symbol]))
        for row in result.signals
    ]
    decisions = [
        Row((row.sequence, ""), row.trigger_key, row.trigger.ts_event, _simulated_decision(row))
        for row in result.decisions
    ]
    return {
        **_signals(signals),
        "decisions": decisions,
        "fills": [_simulated_end(row) for row in result.ends],
    }


def _simulated_signal(row: SimulatedSignal, scale: Scale) -> dict[str, Any]:
    quote = row.quote
    sides = {"bid": None, "bid_quantity": None, "ask": None, "ask_quantity": None} if quote is None else {
        "bid": _exact(scale.price(quote.bid)),
        "bid_quantity": _exact(scale.quantity(quote.bid_quantity)),
        "ask": _exact(scale.price(quote.ask)),
        "ask_quantity": _exact(scale.quantity(quote.ask_quantity)),
    }  # fmt: skip
    return {
        "kind": row.kind,
        "reason": row.reason,
        "trade_id": row.trade_id,
        "price": _exact(scale.price(row.price)),
        "figures": [figure.hex() for figure in row.figures],
        **sides,
        "median": None if row.median is None else _exact(row.median.scaleb(-scale.price_decimals)),
    }


def _simulated_decision(row: DeskDecision) -> dict[str, Any]:
    from apps.engine.desk.replaying import decision_values

    values = decision_values(row)
    del values["sentence"]  # names a position by the number that the database gave it
    order = values["order"]
    return {**values, "order": order and [order["side"], order["quantity"], order["limit_price"]]}


def _simulated_end(row: DeskEnd) -> Row:
    from apps.engine.portfolio import Fill

    fill = row.outcome
    place, key = (row.sequence, ""), row.order.trigger_key
    if isinstance(fill, Fill):
        values = _fill(fill.side.value, fill.price, fill.quantity, fill.fee, fill.fee_currency)
        return Row(place, key, fill.ts_event, values)
    return Row(place, key, row.order.ts_event, {"unfilled": True})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
