"""What a venue reports and cannot be ours: kept once as it came, said aloud, and opening stops until somebody looks."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any, Final

from django.db.models import F
from django.db.models.functions import Now

from apps.alerts.models import Alert
from apps.alerts.services import in_a_line, raise_alert
from apps.execution.models import Order, OrderAnomaly
from apps.execution.venues.base import VenueFill
from apps.portfolio.models import Account
from apps.risk.models import TripCause
from apps.risk.services.states import account_state
from apps.risk.services.trips import trip

log = logging.getLogger(__name__)

Kind = OrderAnomaly.Kind
HARMLESS: Final = frozenset({Kind.TWICE})
"""Kinds after which trading goes on as before: they say something about the venue, nothing about the money."""
PERSON_MAX: Final = 150
WORDS_MAX: Final = 200


class AnomalyRefused(ValueError):
    """An anomaly that cannot be resolved as asked; one line for whoever asked."""


def note_anomaly(
    *,
    account: Account,
    order: Order | None,
    venue: str,
    kind: OrderAnomaly.Kind,
    client_order_id: str,
    reference: str,
    words: str,
    payload: dict[str, Any],
) -> OrderAnomaly | None:
    """Keep it, trip and alert; None if it was kept before, then it is only counted.

    The caller holds the account's lock and saves the account. `reference` is the venue's trade id, or what it was.
    """
    key = {"venue": venue, "kind": kind, "client_order_id": client_order_id[:64], "reference": reference[:64]}
    words = in_a_line(words)
    if OrderAnomaly.objects.filter(**key).update(times=F("times") + 1, last_at=Now()):
        return None
    row = OrderAnomaly.objects.create(
        **key, account=account, order=order, words=words[:300], payload=payload
    )  # fmt: skip
    log.critical("%s at %s for order %s: %s", kind.label.lower(), venue, client_order_id or "?", words)
    raise_alert(
        kind=Alert.Kind.ORDER_ANOMALY,
        severity=Alert.Severity.WARNING if kind in HARMLESS else Alert.Severity.CRITICAL,
        subject=f"{kind.label.lower()} at {venue}",
        words=words,
        session_id=account.session_id,
    )
    if kind not in HARMLESS:
        evidence = {"kind": kind.value, "venue": venue, "order": client_order_id, "reference": reference}
        trip(
            account=account,
            state=account_state(account),
            cause=TripCause.UNKNOWN_FILL,
            evidence=evidence,
            reason=words[:WORDS_MAX],
        )
    return row


def payload_of(venue_fill: VenueFill) -> dict[str, Any]:
    """A fill as the venue told it, exact."""
    fill = {name: value if isinstance(value, int) else str(value) for name, value in asdict(venue_fill.fill).items()}
    return {"trade_id": venue_fill.trade_id, "symbol": venue_fill.symbol, "liquidity": venue_fill.liquidity} | fill


def resolve_anomaly(*, anomaly_id: int, by: str, resolution: str) -> OrderAnomaly:
    """A person has looked and says what it was. Raises `AnomalyRefused` without words, or if somebody was faster."""
    by, resolution = in_a_line(by), in_a_line(resolution)
    if not by or len(by) > PERSON_MAX:
        raise AnomalyRefused(f"say who resolves it, in 1 to {PERSON_MAX} characters")
    if not resolution or len(resolution) > WORDS_MAX:
        raise AnomalyRefused(f"say what it was, in 1 to {WORDS_MAX} characters")
    row = OrderAnomaly.objects.filter(pk=anomaly_id).first()
    if row is None:
        raise AnomalyRefused(f"there is no anomaly {anomaly_id}")
    open_one = OrderAnomaly.objects.filter(pk=anomaly_id, resolved_at=None)
    done = open_one.update(resolved_at=Now(), resolved_by=by, resolution=resolution)
    row.refresh_from_db()
    if not done:
        raise AnomalyRefused(f"anomaly {anomaly_id} was resolved by {row.resolved_by} already: {row.resolution}")
    return row
