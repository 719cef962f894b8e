"""One look at both books: what we have, what the venue says, and what differs between them right now.

The venue is asked between two readings of our rows: an order that moved meanwhile, or that moved a moment ago, is
under way and is left out. Nothing is locked, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Q, Sum

from apps.engine import timeouts
from apps.engine.money import ONE, to_money
from apps.engine.orders import AT_VENUE, UNSETTLED, Status
from apps.engine.reconciling import (
    Difference,
    Kind,
    OrderFacts,
    TradeFacts,
    compare_balances,
    compare_orders,
    compare_trades,
    explained,
)
from apps.execution.models import Order, Trade
from apps.execution.reconciliation_models import ReconcileDifference, ReconcileRun
from apps.execution.venues.base import WORKING, Report, Venue, VenueFill, VenueOrderView
from apps.market.models import EpochInstrument
from apps.portfolio.models import Account, LedgerEntry
from apps.portfolio.selectors import closes_at

Scope = ReconcileRun.Scope
OPEN_STATUSES: Final = tuple(status.value for status in (*AT_VENUE, *UNSETTLED))
RECENT_MS: Final = 3_600_000
NEWEST: Final = 2**62
WORDS_MAX: Final = 160


@dataclass(frozen=True, slots=True)
class Look:
    """`left_out`: orders under way, of which nothing is said. `balances`: whether these were compared."""

    found: list[Difference]
    compared: dict[str, int]
    left_out: set[str]
    balances: bool


@dataclass(slots=True)
class Answers:
    """What the venue said, by client order id where it is about an order."""

    views: dict[str, VenueOrderView]
    reports: dict[str, Report | None] = field(default_factory=dict)
    fills: dict[str, list[VenueFill]] = field(default_factory=dict)
    balances: dict[str, Decimal] | None = None


def look(*, account: Account, venue: Venue, scope: str, now: datetime) -> Look:
    """Compare once. Raises `VenueUnclear` if the venue does not answer all of it."""
    before = {row.client_order_id: row for row in _open_orders(account)}
    waiting = ReconcileDifference.objects.filter(account=account, state=ReconcileDifference.State.OPEN)
    doubted = set(waiting.exclude(client_order_id="").values_list("client_order_id", flat=True))
    sequence, since = _sequence(account), since_ms(account, scope)
    answers = _ask(venue, {*before, *doubted}, since)
    named = {*before, *doubted, *answers.views, *answers.fills}
    after = {row.client_order_id: row for row in _orders(named)}
    foreign = {name for name, row in after.items() if row.account_id != account.pk}
    left_out = {name for name in named - foreign if _under_way(before.get(name), after.get(name), now)}
    compared = named - foreign - left_out
    orders, found = _orders_differ(after, answers, compared)
    theirs = _their_trades(after, answers, compared)
    mine = _our_trades(account, venue.name, compared, since)
    found += compare_trades({name: row for name, row in mine.items() if row.client_order_id not in left_out}, theirs)
    found = _not_dismissed(account, explained(found))
    counts = {"orders": orders, "trades": len({*mine, *theirs})}
    still = not found and _sequence(account) == sequence
    if answers.balances is not None and still:
        ours, differences = _balances(account, answers.balances)
        counts["balances"], found = ours, _not_dismissed(account, differences)
    return Look(found, counts, left_out, answers.balances is not None and still)


def _not_dismissed(account: Account, found: list[Difference]) -> list[Difference]:
    """Without what a person let stand as it is. A balance moves with every trade; what it is off by does not."""
    subjects = [one.subject for one in found]
    rows = ReconcileDifference.objects.filter(
        account=account, state=ReconcileDifference.State.DISMISSED, subject__in=subjects
    )
    newest = {row.key: row for row in rows.order_by("id")}

    def dismissed(one: Difference) -> bool:
        row = newest.get(one.key)
        if row is None:
            return False
        if one.kind is Kind.BALANCE:
            return row.amount == to_money(one.amount)
        return (row.ours, row.venue) == (one.ours[:WORDS_MAX], one.venue[:WORDS_MAX])

    return [one for one in found if not dismissed(one)]


def since_ms(account: Account, scope: str) -> int | None:
    """Event time from which every fill is compared: the newest hour of what was booked, or all. None: open orders'."""
    if scope == Scope.ORDERS:
        return None
    newest = Trade.objects.filter(account=account).order_by("-ts_event").values_list("ts_event", flat=True).first()
    return 0 if scope == Scope.ALL or newest is None else newest - RECENT_MS


def _ask(venue: Venue, names: set[str], since: int | None) -> Answers:
    answers = Answers({view.client_order_id: view for view in venue.open_orders()})
    for name in sorted({*names, *answers.views}):
        answers.reports[name] = venue.query(name)
        answers.fills[name] = venue.trades(name)
    if since is not None:
        for name, fill in venue.fills_since(since):
            known = answers.fills.setdefault(name, [])
            if fill.trade_id not in {one.trade_id for one in known}:
                known.append(fill)
        answers.balances = {asset: balance.total for asset, balance in venue.balances().items()}
    return answers


def _orders(names: Iterable[str]) -> Iterable[Order]:
    return Order.objects.filter(client_order_id__in=list(names)).select_related("instrument")


def _open_orders(account: Account) -> Iterable[Order]:
    return Order.objects.filter(account=account, status__in=OPEN_STATUSES).select_related("instrument")


def _sequence(account: Account) -> int:
    return Account.objects.values_list("sequence", flat=True).get(pk=account.pk)


def _under_way(before: Order | None, after: Order | None, now: datetime) -> bool:
    """Whether an order moved while we asked, or so shortly before that the venue may not show it yet."""
    if after is None:
        return False
    if before is not None and before.updated_at != after.updated_at:
        return True
    return now - after.updated_at < timedelta(milliseconds=timeouts.RECONCILE_IN_FLIGHT_MS)


# --- orders -----------------------------------------------------------------------------------------------------------
def _orders_differ(ours: Mapping[str, Order], answers: Answers, compared: set[str]) -> tuple[int, list[Difference]]:
    """(how many, what differs) of orders that are open on either side. Of those ended on both only fills matter."""
    mine, theirs, strangers = {}, {}, {}
    for name in sorted(compared):
        order, view = ours.get(name), answers.views.get(name)
        if order is None and view is not None:
            strangers[name] = _view(view)
        elif order is not None and (view is not None or order.status in OPEN_STATUSES) and name in answers.reports:
            mine[name] = _own(order)
            theirs[name] = _view(view) if view is not None else _reported(order, answers.reports[name])
    return len(mine) + len(strangers), compare_orders(mine, theirs, strangers)


def _own(order: Order) -> OrderFacts:
    return OrderFacts(
        order.instrument.symbol,
        order.side,
        order.quantity,
        order.filled_qty,
        order.limit_price,
        order.status in OPEN_STATUSES,
        order.status,
        settling=Status(order.status) in UNSETTLED,
    )


def _view(view: VenueOrderView) -> OrderFacts:
    filled = view.filled_quantity
    return OrderFacts(view.symbol, view.side.value, view.quantity, filled, view.limit_price, True, "open")


def _reported(order: Order, report: Report | None) -> OrderFacts | None:
    """An order that the venue does not list as open: what it says when it is asked for it by name."""
    if report is None:
        return None
    return OrderFacts(
        order.instrument.symbol,
        order.side,
        order.quantity,
        report.filled_quantity,
        order.limit_price,
        report.status in WORKING,
        report.status.value,
    )


# --- fills ------------------------------------------------------------------------------------------------------------
def _their_trades(ours: Mapping[str, Order], answers: Answers, compared: set[str]) -> dict[str, TradeFacts]:
    return {
        fill.trade_id: _their_trade(name, fill, ours.get(name))
        for name, fills in answers.fills.items()
        if name in compared
        for fill in fills
    }


def _their_trade(name: str, venue_fill: VenueFill, order: Order | None) -> TradeFacts:
    fill = venue_fill.fill
    symbol = venue_fill.symbol or (order.instrument.symbol if order else "")
    facts = (fill.side.value, fill.price, fill.quantity, fill.fee, fill.fee_currency)
    if order is None:
        return TradeFacts(name, symbol, *facts)
    return TradeFacts(name, symbol, *facts, order.instrument.symbol, order.side, order.limit_price)


def _our_trades(account: Account, venue: str, names: set[str], since: int | None) -> dict[str, TradeFacts]:
    """Ours that the venue was asked for: of these orders, and of that time."""
    asked = Q(order__client_order_id__in=names) | (Q() if since is None else Q(ts_event__gte=since))
    rows = Trade.objects.filter(asked, account=account, venue=venue).select_related("order", "instrument")
    return {
        row.trade_id: TradeFacts(
            row.order.client_order_id,
            row.instrument.symbol,
            row.side,
            row.price,
            row.quantity,
            row.fee,
            row.fee_currency,
        )
        for row in rows
    }


# --- balances ---------------------------------------------------------------------------------------------------------
def _balances(account: Account, venue: Mapping[str, Decimal]) -> tuple[int, list[Difference]]:
    """Of the assets that this account trades; what else lies at the venue is not its business."""
    legs = LedgerEntry.objects.filter(
        account=account, kind__in=[LedgerEntry.Kind.CASH, LedgerEntry.Kind.ASSET]
    )  # fmt: skip
    ours = {row["currency"]: row["total"] for row in legs.values("currency").annotate(total=Sum("amount")).order_by()}
    prices = _prices(account)
    assets = {account.currency, *ours, *prices}
    theirs = {asset: amount for asset, amount in venue.items() if asset in assets}
    return len({*ours, *theirs}), compare_balances(ours, theirs, prices, prices.keys() - {account.currency})


def _prices(account: Account) -> dict[str, Decimal]:
    """What one unit of an asset is worth in the account's currency, by the newest bars."""
    epoch_id = account.session.epoch_id
    closes = closes_at(epoch_id=epoch_id, minute=NEWEST)
    members = EpochInstrument.objects.filter(epoch_id=epoch_id, instrument__quote_asset=account.currency)
    rows = members.values_list("instrument__symbol", "instrument__base_asset")
    return {account.currency: ONE} | {asset: closes[symbol] for symbol, asset in rows if symbol in closes}
