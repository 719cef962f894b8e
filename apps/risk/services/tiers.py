"""Moving a tier: by results when a round trip closes, by a breaker, by a person. The rule is `apps.engine.tiers`.

A move is one transaction: the binding's row is locked (so that two moves of one strategy come one after the other), the
version with the new thresholds is found or made, the schedule takes it up from the next minute that no shard has
evaluated, and the move is stored with its evidence. It locks no account: what it reads of one (closed round trips) only
grows. Late or doubled messages are harmless: results are looked at as they are now, and a breaker moves a binding once.

Only the main book's results move tiers, for the versions of a strategy that tiers have thresholds for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from apps.engine import tiers
from apps.engine.tiers import Cause, Evidence, Rules, Tier
from apps.market.selectors import reached_ms
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import MAIN_BOOK, Account
from apps.risk.models import RiskLimits, RiskStateChange, TierChange
from apps.risk.selectors import Closed, closed_round_trips, current_limits, standing_of
from apps.signals.models import SessionStrategy
from apps.signals.services.schedules import ScheduleRefused, change_version, version_in_force
from apps.signals.services.versions import SYSTEM, version_with

log = logging.getLogger(__name__)

MINUTE_MS = 60_000


class TierRefused(ValueError):
    """A tier that cannot be set as asked; one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A move that has been decided."""

    to_tier: Tier
    cause: Cause
    evidence: Evidence
    ts_event: int
    set_by: str
    reason: str
    breaker_id: int | None = None


def review_tier(*, account_id: int, change_id: int = 0) -> list[TierChange]:
    """Move the tiers that results ask for, or that the breaker of state change `change_id` takes down. Repeatable."""
    account = Account.objects.select_related("session").get(pk=account_id)
    if account.book != MAIN_BOOK or account.session.ended_at is not None:
        return []
    found = [
        retry_tx(partial(_review, binding_id, account, change_id)) for binding_id in _bindings(account)
    ]  # fmt: skip
    return [row for row in found if row is not None]


def set_tier(*, binding_id: int, to_tier: Tier, set_by: str, reason: str) -> TierChange | None:
    """A person moves a tier, to any other one and at any time. None if it is that one already.

    Raises `TierRefused` if this strategy has no tiers or its session has ended.
    """
    return retry_tx(partial(move_by_hand, binding_id=binding_id, to_tier=to_tier, set_by=set_by, reason=reason))


def move_by_hand(*, binding_id: int, to_tier: Tier, set_by: str, reason: str) -> TierChange | None:
    """`set_tier` as part of the caller's transaction, which must hold no account's lock."""
    binding = _locked(binding_id)
    account = Account.objects.get(session_id=binding.session_id, book=MAIN_BOOK)
    closed = closed_round_trips(account_id=account.pk, binding=binding)
    if standing_of(binding).tier == to_tier:
        return None
    now_ms = reached_ms(epoch_id=binding.session.epoch_id) or 0
    step = _Step(to_tier, Cause.PERSON, tiers.evidence(closed.won), now_ms, set_by, reason)
    try:
        return _make(binding, step, closed)
    except (ScheduleRefused, ValueError) as error:
        raise TierRefused(str(error)) from error


def _bindings(account: Account) -> list[int]:
    found = SessionStrategy.objects.filter(session_id=account.session_id, book=account.book)
    return list(found.order_by("id").values_list("pk", flat=True))


def _locked(binding_id: int) -> SessionStrategy:
    related = ("session", "version__strategy")
    return SessionStrategy.objects.select_for_update(of=("self",)).select_related(*related).get(pk=binding_id)


def rules_of(limits: RiskLimits) -> Rules:
    return Rules(dwell_ms=limits.tier_dwell_minutes * MINUTE_MS)


def _review(binding_id: int, account: Account, change_id: int) -> TierChange | None:
    binding = _locked(binding_id)
    limits = current_limits(account.pk)
    if not limits.adaptive_tiers or not tiers.applies_to(version_in_force(binding).parameters):
        return None
    closed = closed_round_trips(account_id=account.pk, binding=binding)
    step = _after_breaker(binding, closed, change_id) if change_id else _by_results(binding, closed, rules_of(limits))
    if step is None:
        return None
    try:
        return _make(binding, step, closed)
    except ScheduleRefused as error:
        log.error("tier of %s stays: %s", binding, error)
        return None


def _by_results(binding: SessionStrategy, closed: Closed, rules: Rules) -> _Step | None:
    newest = binding.tier_changes.order_by("-id").first()
    since = closed.count - (newest.closed_before if newest else 0)
    move = tiers.review(
        standing=standing_of(binding), results=closed.won, since_move=since, now_ms=closed.newest_ms, rules=rules
    )
    if move is None:
        return None
    found = move.evidence
    words = f"{found.wins} of {found.n} round trips won: {found.lower:.1%} to {found.upper:.1%}"
    return _Step(move.to_tier, move.cause, found, closed.newest_ms, SYSTEM, words)


def _after_breaker(binding: SessionStrategy, closed: Closed, change_id: int) -> _Step | None:
    change = RiskStateChange.objects.get(pk=change_id)
    if TierChange.objects.filter(binding=binding, breaker=change).exists():
        return None
    move = tiers.after_breaker(standing_of(binding), closed.won)
    if move is None:
        return None
    now_ms = max(reached_ms(epoch_id=binding.session.epoch_id) or 0, closed.newest_ms)
    return _Step(move.to_tier, move.cause, move.evidence, now_ms, SYSTEM, f"breaker: {change.reason}", change.pk)


def _make(binding: SessionStrategy, step: _Step, closed: Closed) -> TierChange:
    """Store the move and put its version on the schedule. Raises `ScheduleRefused`, ValueError."""
    before = version_in_force(binding)
    version = version_with(
        name=binding.version.strategy.name,
        parameters=tiers.with_tier(before.parameters, step.to_tier),
        author=step.set_by,
        reason=f"tier {step.to_tier} over {before}",
        engine_hash=binding.version.engine_hash,
    )
    reason = step.reason[:200]
    scheduled = change_version(binding=binding, version=version, set_by=step.set_by, reason=reason)
    row = TierChange.objects.create(
        binding=binding,
        from_tier=standing_of(binding).tier,
        to_tier=step.to_tier,
        cause=step.cause,
        round_trips=step.evidence.n,
        wins=step.evidence.wins,
        lower=step.evidence.lower,
        upper=step.evidence.upper,
        closed_before=closed.count,
        version=version,
        from_minute=scheduled.from_minute,
        ts_event=step.ts_event,
        breaker_id=step.breaker_id,
        set_by=step.set_by,
        reason=reason,
    )
    log.warning("tier of %s: %s, from minute %d on: %s", binding, row, row.from_minute, reason)
    return row
