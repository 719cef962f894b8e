"""What somebody asks about: a signal, decision, order or trade, by whatever name it has at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.db.models import Q

from apps.execution.models import Order, Trade
from apps.risk.models import OrderIntent, RiskDecision
from apps.signals.models import Signal, SignalRefusal

KINDS: Final = ("signal", "refusal", "decision", "order", "trade")
FORMS: Final = "order:ID, trade:ID, signal:ID, decision:ID, refusal:ID or a client order id"
ID_MAX: Final = 2**63 - 1


class NoSubject(LookupError):
    """Nothing, or more than one thing, has the name that was given. One line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A name and the signal that it leads back to; a refusal if the signal was never raised."""

    name: str
    signal: Signal | None
    refusal: SignalRefusal | None = None


def find(name: str) -> Subject:
    """Raises `NoSubject` for a name that nothing has or that several things have."""
    given = name.strip()
    kind, colon, rest = given.partition(":")
    if colon and kind in KINDS:
        found = _of_kind(kind, rest)
        if not found:
            raise NoSubject(f"there is no {kind} {rest[:60]!r}")
    else:
        found = [subject for each in KINDS for subject in _of_kind(each, given)]
        if not found:
            raise NoSubject(f"nothing is called {given[:60]!r}: give {FORMS}")
    names = list(dict.fromkeys(subject.name for subject in found))
    if len(names) > 1:
        raise NoSubject(f"{given[:60]!r} may be {', '.join(names[:5])}: say which")
    return found[0]


def _of_kind(kind: str, text: str) -> list[Subject]:
    number = int(text) if text.isascii() and text.isdigit() and int(text) <= ID_MAX else None
    if kind == "signal":
        return [Subject(f"signal:{row.pk}", row) for row in Signal.objects.filter(pk=number)] if number else []
    if kind == "refusal":
        rows = SignalRefusal.objects.filter(pk=number) if number else []
        return [Subject(f"refusal:{row.pk}", None, row) for row in rows]
    if kind == "decision":
        known = number is not None and RiskDecision.objects.filter(pk=number).exists()
        return [_back(f"decision:{number}", decision=number)] if known else []
    if kind == "order":
        return _orders(text, number)
    return [_back(f"trade:{pk}", order=order) for pk, order in _trades(text, number)]


def _orders(text: str, number: int | None) -> list[Subject]:
    """By our own number or the client order id. An intent without an order has a client order id too."""
    asked = Q(client_order_id=text) if number is None else Q(pk=number)
    orders = Order.objects.filter(asked).values_list("pk", "intent_id")
    if orders or number is not None:
        return [_back(f"order:{pk}", intent=intent) for pk, intent in orders]
    intents = OrderIntent.objects.filter(client_order_id=text)
    return [_back(f"order:{row.client_order_id}", intent=row.pk) for row in intents]


def _trades(text: str, number: int | None) -> list[tuple[int, int]]:
    """By our own number, by the venue's name and number (`paper:17`), or by the venue's number alone if it is text."""
    venue, colon, trade_id = text.partition(":")
    asked = Q(venue=venue, trade_id=trade_id) if colon else Q(trade_id=text) if number is None else Q(pk=number)
    return list(Trade.objects.filter(asked).values_list("pk", "order_id"))


def _back(name: str, *, decision: int | None = None, intent: int | None = None, order: int | None = None) -> Subject:
    """The signal behind a row, looked up step by step. Raises `NoSubject` naming the first step that is gone."""
    if order is not None:
        intent = _step(name, "order", Order.objects.filter(pk=order).values_list("intent_id", flat=True))
    if intent is not None:
        decision = _step(name, "intent", OrderIntent.objects.filter(pk=intent).values_list("decision_id", flat=True))
    behind = RiskDecision.objects.filter(pk=decision or 0).values_list("signal_id", flat=True)
    signal = Signal.objects.filter(pk=_step(name, "decision", behind)).first()
    if signal is None:
        raise NoSubject(_lost(name, "signal"))
    return Subject(name, signal)


def _step(name: str, what: str, rows: Iterable[int]) -> int:
    found = next(iter(rows), None)
    if found is None:
        raise NoSubject(_lost(name, what))
    return found


def _lost(name: str, what: str) -> str:
    return f"{name} has lost its {what}: `manage.py verify` names what is missing"
