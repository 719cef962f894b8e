"""Which trading state holds for an order: the strictest of its account's, its strategy's and its symbol's."""

from __future__ import annotations

from typing import Final

from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When

from apps.outbox.reads import Read
from apps.risk.models import BreakerTrip, RiskState, Scope, ScopedState, TradingState

STRICTNESS: Final[dict[str, int]] = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}
MISSING_WORDS: Final = "because the account's trading state is missing"


def strictest(*states: TradingState) -> TradingState:
    return max(states, key=lambda state: STRICTNESS[state])


def effective_state(account_id: int, strategy: str, symbol: str) -> tuple[TradingState, str]:
    """The state that holds for an order of `strategy` in `symbol`, and since when, by whom and why (empty if ACTIVE).

    HALTED if the account's row is missing: what cannot be read forbids. An error of the database is the caller's, who
    then sends nothing. One query.
    """
    row = read_scoped(account_id, strategy, symbol)
    return (TradingState.HALTED, MISSING_WORDS) if row is None else effective_of(row)


def forbids(state: TradingState, since: str, *, reducing: bool) -> str:
    """Why a trading state lets an order not be sent, or not go on; empty if it does. `since`: the state's words."""
    if state == TradingState.HALTED:
        return f"trading is halted {since}"
    if state == TradingState.REDUCING and not reducing:
        return f"only reducing orders are allowed {since}"
    return ""


def read_scoped(account_id: int, strategy: str, symbol: str) -> RiskState | None:
    """The account's row with `scoped`: what `effective_of` needs of the strictest state of the other two scopes."""
    return _STATE.first(strategy, symbol, account_id)


def _with_scoped(strategy: str, symbol: str, account_id: int) -> QuerySet[RiskState]:
    about = Q(scope=Scope.STRATEGY, subject=strategy) | Q(scope=Scope.SYMBOL, subject=symbol)
    stricter = Case(*(When(trading_state=state, then=Value(n)) for state, n in STRICTNESS.items()))
    rows = ScopedState.objects.filter(about, account_id=OuterRef("account_id")).exclude(
        trading_state=TradingState.ACTIVE
    )
    newest = rows.annotate(strictness=stricter).order_by("-strictness", "id")
    return RiskState.objects.filter(account_id=account_id).annotate(scoped=Subquery(newest.values("pk")[:1]))


_STATE = Read(_with_scoped, str, str, int)


def effective_of(row: RiskState) -> tuple[TradingState, str]:
    """`effective_state` for a caller that has read the account's row by `read_scoped`."""
    scoped_id = getattr(row, "scoped", None)
    rows: list[RiskState | ScopedState] = [row]
    if scoped_id is not None:
        rows.append(ScopedState.objects.get(pk=scoped_id))
    holds = max(rows, key=lambda each: STRICTNESS[each.trading_state])
    return TradingState(holds.trading_state), words_of(holds)


def words_of(row: RiskState | ScopedState) -> str:
    """Since when a state holds, by whom and why, as it stands behind "trading is halted"; empty if it is ACTIVE."""
    if row.trading_state == TradingState.ACTIVE:
        return ""
    about = f"for {row.subject} " if isinstance(row, ScopedState) else ""
    return f"{about}since {row.state_since:%H:%M} by {row.state_set_by}: {row.state_reason}"


def scoped_states(account_id: int) -> list[ScopedState]:
    """Every strategy and symbol whose state is not ACTIVE, strategies first."""
    rows = ScopedState.objects.filter(account_id=account_id).exclude(trading_state=TradingState.ACTIVE)
    return list(rows.order_by("scope", "subject"))


def open_trips(account_id: int, scope: str | None = None, subject: str = "") -> list[BreakerTrip]:
    """Trips that nobody and nothing has cleared, oldest first; of one scope, or of all."""
    rows = BreakerTrip.objects.filter(account_id=account_id, cleared_at=None).order_by("id")
    return list(rows if scope is None else rows.filter(scope=scope, subject=subject))
