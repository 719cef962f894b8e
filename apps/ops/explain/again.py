"""Working the chain's numbers out again, through the engine's own functions, from what was stored before them.

Given is what a decision was told and nothing else has kept: the marks, the ages, the order path, the trading state with
its words, and what the exchange said of the symbol. Balances, positions and reservations are not: `Past` adds them up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from apps.engine.desk.book import MarkSet
from apps.engine.desk.deciding import Circumstances, Ruled, Standing, Terms, decide
from apps.engine.matching import slippage_against
from apps.engine.money import ZERO, to_money, total
from apps.engine.portfolio import Fill, Holding, Side, after_fill, legs_of, stop_and_target
from apps.engine.risk.values import Reason, TradingState
from apps.engine.risk.words import plain
from apps.execution.again import paper_again
from apps.execution.models import Order, Trade
from apps.market.models import Instrument
from apps.ops.explain.history import Past
from apps.ops.explain.orders import PAPER
from apps.ops.explain.parts import Recomputed
from apps.portfolio.models import LedgerEntry, Position
from apps.risk.models import OrderIntent, RiskDecision
from apps.risk.selectors import limits_of, terms_of, trigger_of
from apps.signals.models import Signal, StrategyVersion

UNKNOWN_FEED: Final = re.compile(r"^the age of the feed is unknown: (.*) \(limit [^()]*\)$", re.DOTALL)
NOT_TRADABLE: Final = "is not open for trading at the exchange"
NOT_IN_SESSION: Final = "is not part of this session"
NOTHING: Final = "nothing"


def decision_again(
    decision: RiskDecision, signal: Signal, intent: OrderIntent | None, past: Past
) -> Iterator[Recomputed]:
    """Verdict, every check, equity, exposure, and the order's size and price. `past` is moved to the decision."""
    past.to(decision.sequence)
    ruled = _ruled(decision, signal, past)
    assessment = ruled.assessment
    yield Recomputed("verdict", decision.verdict, "approved" if ruled.approved else "denied")
    yield Recomputed("reasons", ", ".join(decision.reasons), ", ".join(assessment.reasons))
    yield Recomputed("sentence", decision.sentence, assessment.sentence[:300])
    yield Recomputed("equity", plain(decision.equity), plain(to_money(ruled.equity)))
    yield Recomputed("exposure before", plain(decision.exposure_before), plain(to_money(ruled.exposure_before)))
    yield Recomputed("exposure after", plain(decision.exposure_after), plain(to_money(ruled.exposure_after)))
    yield from _checks_again(decision.checks, ruled.checks)
    if intent is not None:
        wanted = ruled.proposal.intent
        yield Recomputed("order side", intent.side, wanted.side.value)
        yield Recomputed("order quantity", plain(intent.quantity), plain(wanted.quantity))
        yield Recomputed("order limit price", plain(intent.limit_price), plain(wanted.limit_price))


def _checks_again(stored: Any, again: Sequence[dict[str, Any]]) -> Iterator[Recomputed]:
    """Check by check; one that is missing on either side differs."""
    rows, wanted = _by_code(stored), {str(row["code"]): row for row in again}
    for code in [*wanted, *(code for code in rows if code not in wanted)]:
        yield Recomputed(f"check {code}", _check_text(rows.get(code)), _check_text(wanted.get(code)))


def _by_code(stored: Any) -> dict[str, dict[str, Any]]:
    rows = stored if isinstance(stored, list) else []
    return {str(row.get("code")): row for row in rows if isinstance(row, dict)}


def _check_text(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    shown = (name for name in ("passed", "value", "limit", "margin", "left", "note") if row.get(name) not in (None, ""))
    return ", ".join(f"{name} {row[name]}" for name in shown)


def _ruled(decision: RiskDecision, signal: Signal, past: Past) -> Ruled:
    account, limits, rows = past.account, limits_of(decision.limits), _by_code(decision.checks)
    unknown_feed = UNKNOWN_FEED.match(_note(rows, Reason.STALE_FEED))
    around = Circumstances(
        in_session=NOT_IN_SESSION not in _note(rows, Reason.SYMBOL),
        feed_age_ms=decision.feed_age_ms,
        feed_words=unknown_feed.group(1) if unknown_feed else "",
        signal_age_ms=decision.signal_age_ms,
        marks=MarkSet.from_json(decision.marks),
        **Circumstances.told(decision.inputs),
    )
    standing = Standing(
        trading_state=TradingState(decision.trading_state),
        state_words=str(decision.inputs.get("state_words", "")),
        currency=account.currency,
        cash=past.cash_at(decision.decided_at),
        book=past.book(),
        known=MarkSet(None, {}),
        record=past.record,
    )
    return decide(
        trigger_of(signal),
        _terms(signal.instrument, rows),
        around,
        standing,
        limits,
        lambda intent: past.earlier(signal.ts_event, intent, limits),
    )


def _note(rows: Mapping[str, Mapping[str, Any]], reason: Reason) -> str:
    return str(rows.get(reason.value, {}).get("note") or "")


def _terms(instrument: Instrument, rows: Mapping[str, Mapping[str, Any]]) -> Terms:
    """The instrument as the exchange described it then: whether it was open and its least notional, by the checks."""
    terms = terms_of(instrument)
    least = rows.get(Reason.MIN_NOTIONAL.value, {}).get("limit")
    return replace(
        terms,
        tradable=NOT_TRADABLE not in _note(rows, Reason.SYMBOL),
        notional_min=terms.notional_min if least is None else Decimal(str(least)),
    )


# --- fills, positions, ledger -----------------------------------------------------------------------------------------


def fill_again(trade: Trade, instrument: Instrument, legs: Sequence[LedgerEntry]) -> Iterator[Recomputed]:
    """A paper fill's price and fee from the quote that it met, its slippage, and its ledger legs (in their order)."""
    name = f"{trade.venue} {trade.trade_id}"
    if trade.venue == PAPER:
        yield from _paper_again(name, trade)
    if trade.reference_price and trade.slippage_bps is not None:
        again = slippage_against(Side(trade.side), trade.price, trade.reference_price)
        yield Recomputed(f"slippage of {name}", plain(trade.slippage_bps), plain(again))
    wanted = legs_of(_fill_of(trade), base=instrument.base_asset, quote=instrument.quote_asset)
    yield Recomputed(f"ledger of {name}", _legs_text(legs), _legs_text(wanted))


def _legs_text(legs: Iterable[Any]) -> str:
    return ", ".join(f"{leg.kind} {plain(leg.amount)} {leg.currency}" for leg in legs) or NOTHING


def _paper_again(name: str, trade: Trade) -> Iterator[Recomputed]:
    found = paper_again(trade)
    if found is None:
        yield Recomputed(f"quote of {name}", "the venue's book has it", "it is gone")
        return
    price = trade.price if trade.price in found.prices else found.prices[0]
    yield Recomputed(f"price of {name}", plain(trade.price), plain(price))
    if found.fee is not None:
        yield Recomputed(f"fee of {name}", plain(trade.fee), plain(found.fee))


def _fill_of(trade: Trade) -> Fill:
    return Fill(Side(trade.side), trade.price, trade.quantity, trade.fee, trade.fee_currency, trade.ts_event)


def order_again(order: Order, trades: Sequence[Trade]) -> Iterator[Recomputed]:
    """What the order has filled and what is left of it, from its trades."""
    filled = total([trade.quantity for trade in trades])
    yield Recomputed("filled", plain(order.filled_qty), plain(filled))
    yield Recomputed("left", plain(order.leaves_qty), plain(total([order.quantity, -filled])))


def position_again(
    position: Position, instrument: Instrument, version: StrategyVersion | None, trades: Sequence[Trade]
) -> Iterator[Recomputed]:
    """The numbers of a position from its trades in their order; stop and target from its version's percentages.

    Fees in a third coin were valued at a price that is not kept: then `fees` is left out.
    """
    holding, base, quote = Holding(), instrument.base_asset, instrument.quote_asset
    for trade in trades:
        holding = after_fill(holding, _fill_of(trade), base=base, quote=quote)
    names = ["quantity", "entry_quantity", "entry_price", "realized"]
    if all(trade.fee_currency in (base, quote) for trade in trades):
        names.append("fees")
    for name in names:
        again = plain(getattr(holding, name))
        yield Recomputed(f"position's {name.replace('_', ' ')}", plain(getattr(position, name)), again)
    if version is not None and {"stop_loss_pct", "take_profit_pct"} <= version.parameters.keys():
        loss, profit = (Decimal(str(version.parameters[name])) for name in ("stop_loss_pct", "take_profit_pct"))
        stop, target = stop_and_target(holding.entry_price, loss, profit)
        yield Recomputed("stop price", plain(position.stop_price), plain(stop))
        yield Recomputed("target price", plain(position.target_price), plain(target if profit else ZERO))
