"""Doing again what an account did, in its recorded order, and comparing each step with what was written down.

Given are the triggers as derived again from the stream, the circumstances that a decision was told (ages of wall time,
marks), and what people did to the trading state. Everything else must come out equal: verdicts with every check, sizes,
prices, fees, fill times, exposure and equity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from apps.engine.desk.account import Desk, DeskDecision, DeskOrder, DeskPosition
from apps.engine.desk.deciding import Circumstances, Trigger, client_order_id
from apps.engine.matching import Expired, Expiry, TopOfBook
from apps.engine.money import to_money
from apps.engine.portfolio import Fill, Leg
from apps.engine.risk.values import Limits, TradingState
from apps.engine.risk.words import plain

QuoteAt = Callable[[str, int], TopOfBook | None]
GapAt = Callable[[str, int], str]
Derived = Callable[[DeskPosition | None], Trigger | None]
ABSENT: Final = "nothing"
KINDS: Final = ("signals", "decisions", "fills", "ends", "states")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that came out differently. Both sides name the values that differ."""

    what: str
    key: str
    sequence: int | None
    recorded: Mapping[str, Any]
    replayed: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionStep:
    """A recorded decision and the signal that it was made on.

    `derived` gives the signal as the stream has it (None: it has no such signal), for the position that is to be
    closed, if there is one. It is None where a signal is an input: an exit raised again after one that failed.
    """

    sequence: int
    trigger_key: str
    version_id: int
    trigger: Trigger
    derived: Derived | None
    opened_by: str | None  # client order id of the entry of the position that an exit closes
    around: Circumstances
    limits: Limits
    recorded: Mapping[str, Any]
    state: TradingState | None = None  # in force for its strategy and symbol; None: as the account's steps left it
    state_words: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillStep:
    """A recorded fill: price, quantity, fee and event time."""

    sequence: int
    client_order_id: str
    recorded: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStep:
    """An order that ended without a fill. `at_venue`: it expired there, so the reason must come out again."""

    sequence: int
    client_order_id: str
    reason: str
    at_venue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStep:
    """Somebody changed the trading state."""

    sequence: int
    state: TradingState
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyStep:
    """Somebody corrected the ledger: taken as it was posted, for nothing on the stream says so."""

    sequence: int
    reference: str
    legs: tuple[Leg, ...]


Step = DecisionStep | FillStep | EndStep | StateStep | MoneyStep


@dataclass(slots=True)
class Replay:
    """Drives a desk through recorded steps. `compared` counts what was held against each other, by kind."""

    desk: Desk
    quote_at: QuoteAt
    gap_at: GapAt
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    opened: dict[str, DeskPosition] = field(default_factory=dict)

    def run(self, steps: Iterable[Step]) -> Difference | None:
        """Do the steps in order. Returns the first difference and stops there, for everything after follows from it."""
        for step in steps:
            found = self._do(step)
            if found is not None:
                return found
        return None

    def _do(self, step: Step) -> Difference | None:
        if isinstance(step, DecisionStep):
            return self._decide(step)
        if isinstance(step, StateStep):
            self.desk.state, self.desk.state_words = step.state, step.words
            self.desk.sequence += 1
            self.compared["states"] += 1
            return None
        if isinstance(step, MoneyStep):
            self.desk.correct(step.reference, step.legs)
            return None
        return self._end(step)

    def _decide(self, step: DecisionStep) -> Difference | None:
        self.compared["decisions"] += 1
        position = None if step.opened_by is None else self.opened.get(step.opened_by)
        if step.derived is not None:
            derived = step.derived(position)
            differing = _differing(
                "signal", step.trigger_key, step.sequence, trigger_values(step.trigger),
                {"signal": ABSENT} if derived is None else trigger_values(derived),
            )  # fmt: skip
            if differing is not None:
                return differing
        self.compared["signals"] += step.derived is not None
        self.desk.limits = step.limits
        if step.state is not None and step.state_words is not None:
            self.desk.state, self.desk.state_words = step.state, step.state_words
        number = None if step.opened_by is None else 0 if position is None else position.position_id
        decision = self.desk.decide(
            trigger_key=step.trigger_key,
            version_id=step.version_id,
            trigger=replace(step.trigger, position_id=number),
            around=step.around,
        )
        return _differing("decision", step.trigger_key, step.sequence, step.recorded, decision_values(decision))

    def _end(self, step: FillStep | EndStep) -> Difference | None:
        what = "fill" if isinstance(step, FillStep) else "end"
        self.compared[f"{what}s"] += 1
        known = self.desk.orders.get(step.client_order_id)
        if known is None:
            recorded = dict(step.recorded) if isinstance(step, FillStep) else {"reason": step.reason}
            return Difference(what, step.client_order_id, step.sequence, recorded, {"order": ABSENT})
        order = known[0]
        if isinstance(step, EndStep) and not step.at_venue:
            self.desk.end(order, None, gap="not sent")
            return None
        quote = self.quote_at(order.symbol, order.ts_mature)
        gap = ""
        if isinstance(step, EndStep) and step.reason.startswith(Expiry.FEED_GAP):
            gap = self.gap_at(order.symbol, order.ts_mature) or "its symbol was not delivered"
        end = self.desk.end(order, quote, gap=gap)
        if isinstance(end.outcome, Fill) and order.position_id is None:
            self._opened(order)
        if isinstance(step, FillStep):
            return _differing(what, order.trigger_key, step.sequence, step.recorded, outcome_values(end.outcome))
        replayed = outcome_values(end.outcome)
        if isinstance(end.outcome, Expired) and step.reason.startswith(end.outcome.reason):
            return None
        return Difference(what, order.trigger_key, step.sequence, {"reason": step.reason}, replayed)

    def _opened(self, order: DeskOrder) -> None:
        position = next(reversed(self.desk.positions.values()))
        self.opened[client_order_id(self.desk.session, self.desk.book_name, order.trigger_key)] = position


def trigger_values(trigger: Trigger) -> dict[str, Any]:
    """A signal in the form in which both sides are shown."""
    prices = {
        "price": trigger.price, "printed": trigger.printed, "bid": trigger.bid, "ask": trigger.ask,
        "median": trigger.median,
    }  # fmt: skip
    shown = {name: None if value is None else plain(value) for name, value in prices.items()}
    return {"symbol": trigger.symbol, "ts_event": trigger.ts_event, "exit": trigger.is_exit, **shown}


def decision_values(decision: DeskDecision) -> dict[str, Any]:
    """What a decision writes down, in the form in which rows keep it."""
    ruled = decision.ruled
    return {
        "verdict": "approved" if ruled.approved else "denied",
        "reasons": [reason.value for reason in ruled.assessment.reasons],
        "sentence": ruled.assessment.sentence[:300],
        "checks": ruled.checks,
        "equity": money_text(to_money(ruled.equity)),
        "exposure_before": money_text(to_money(ruled.exposure_before)),
        "exposure_after": money_text(to_money(ruled.exposure_after)),
        "marks": ruled.marks.as_json(),
        "order": None
        if decision.order is None
        else {
            "client_order_id": decision.order.client_order_id,
            "side": decision.order.side.value,
            "quantity": plain(decision.order.quantity),
            "limit_price": plain(decision.order.limit_price),
        },
    }


def outcome_values(outcome: Fill | Expired) -> dict[str, Any]:
    """A fill as rows keep it, or why there is none."""
    if isinstance(outcome, Expired):
        return {"reason": f"{outcome.reason}: {outcome.words}"}
    return {
        "side": outcome.side.value,
        "price": plain(outcome.price),
        "quantity": plain(outcome.quantity),
        "fee": plain(outcome.fee),
        "fee_currency": outcome.fee_currency,
        "ts_event": outcome.ts_event,
    }


def money_text(amount: Decimal) -> str:
    """Equal for equal amounts, however many zeros a column adds."""
    return plain(amount)


def _differing(
    what: str, key: str, sequence: int, recorded: Mapping[str, Any], replayed: Mapping[str, Any]
) -> Difference | None:
    """The values that are not equal, on both sides; None if all are."""
    names = [name for name in {**recorded, **replayed} if recorded.get(name, ABSENT) != replayed.get(name, ABSENT)]
    if not names:
        return None
    left = {name: recorded.get(name, ABSENT) for name in names}
    return Difference(what, key, sequence, left, {name: replayed.get(name, ABSENT) for name in names})
