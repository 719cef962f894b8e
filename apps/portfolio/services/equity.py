"""What an account is worth, minute by minute."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from apps.engine.money import ZERO, exact
from apps.portfolio.models import Account, EquityPoint
from apps.portfolio.selectors import worth_at

SHARE_STEP: Final = Decimal("1e-9")
MINUTE_MS: Final = 60_000


def record_equity(*, account: Account, minute: int, marks: Mapping[str, Decimal]) -> EquityPoint | None:
    """The account's worth at the close of an event minute, from the ledger as of then. Once per minute.

    None if something that is traded and held then has no mark: a worth that leaves out a holding would be a wrong
    number. Coins that are not traded in the session and have no price (a fee's, say) are left out by name. The peak is
    that of the points before.
    """
    known = EquityPoint.objects.filter(account=account, minute=minute).first()
    if known is not None:
        return known
    found = worth_at(account=account, before_ms=(minute + 1) * MINUTE_MS, marks=marks)
    if found.unmarked:
        return None
    peak = max(_peak_before(account, minute), found.equity)
    point, _ = EquityPoint.objects.get_or_create(
        account=account,
        minute=minute,
        defaults={
            "cash": found.cash,
            "equity": found.equity,
            "exposure": found.value,
            "peak": peak,
            "drawdown": drawdown_of(found.equity, peak),
            "unvalued": {coin: f"{amount:f}" for coin, amount in found.unvalued.items()},
        },
    )
    return point


def _peak_before(account: Account, minute: int) -> Decimal:
    earlier = EquityPoint.objects.filter(account=account, minute__lt=minute).order_by("-minute")
    found: Decimal | None = earlier.values_list("peak", flat=True).first()
    return ZERO if found is None else found


@exact
def drawdown_of(equity: Decimal, peak: Decimal) -> Decimal:
    """The share of the peak that is gone, nine places; 0 without a peak. Above 1 where equity is below zero."""
    if peak <= 0:
        return ZERO
    return ((peak - equity) / peak).quantize(SHARE_STEP, rounding=ROUND_HALF_EVEN)
