"""`manage.py orders list|show|cancel`: the session's orders, one of them in full, and taking one back."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import CommandError

from apps.engine.orders import ENDED
from apps.engine.risk.words import plain
from apps.execution.models import Order
from apps.execution.services import CancelRefused, request_cancel
from apps.portfolio.selectors import current_session
from apps.staff import times
from apps.staff.commands import REFUSED, OneLineCommand

LISTED_MAX: Final = 50
HELP: Final = {
    "list": f"orders that have not ended, oldest first; with --all the newest {LISTED_MAX} of any kind",
    "show": "one order with its steps, fills and what was odd about it",
    "cancel": "ask the venue to take an order back; a fill may be faster",
}


class Command(OneLineCommand):
    help = "Show orders, or ask for one to be canceled."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(HELP))
        listing = actions.add_parser("list", help=HELP["list"], description=HELP["list"])
        listing.add_argument("--all", action="store_true")
        listing.add_argument("--json", action="store_true")
        showing = actions.add_parser("show", help=HELP["show"], description=HELP["show"])
        showing.add_argument("order", help="its number or its client order id")
        canceling = actions.add_parser("cancel", help=HELP["cancel"], description=HELP["cancel"])
        canceling.add_argument("order", help="its number or its client order id")
        canceling.add_argument("--reason", required=True, help="one line, kept with it")
        canceling.add_argument("--by", default="", help="who cancels it (default: your user name)")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["action"] == "list":
            self._list(everything=options["all"], as_json=options["json"])
        elif options["action"] == "show":
            self._show(_order(options["order"]))
        else:
            self._cancel(_order(options["order"]), options["by"], options["reason"])

    def _list(self, *, everything: bool, as_json: bool) -> None:
        session = current_session()
        orders = Order.objects.filter(account__session=session).select_related("instrument").order_by("id")
        working = orders.exclude(status__in=[status.value for status in ENDED])
        rows = list(orders.reverse()[:LISTED_MAX]) if everything else list(working)
        if as_json:
            self.stdout.write(json.dumps([_as_json(row) for row in rows], indent=2))
            return
        self.stdout.write("\n".join(_line(row) for row in rows) or "no order is at work")

    def _show(self, order: Order) -> None:
        self.stdout.write(_line(order))
        for event in order.events.order_by("number"):
            at = times.full(times.to_ms(event.created_at))
            self.stdout.write(f"  {at}  {event.event:<10} -> {event.status:<16} {event.detail}".rstrip())
        for trade in order.trades.order_by("sequence"):
            against = "?" if trade.slippage_bps is None else plain(trade.slippage_bps)
            self.stdout.write(
                f"  fill {trade.trade_id}: {plain(trade.quantity)} at {plain(trade.price)}, {trade.liquidity}, fee "
                f"{plain(trade.fee)} {trade.fee_currency}, {trade.latency_ms} ms after its trigger, "
                f"{against} bp against us"
            )
        for anomaly in order.anomalies.order_by("id"):
            self.stdout.write(f"  anomaly {anomaly.pk} ({anomaly.kind}): {anomaly.words}")

    def _cancel(self, order: Order, by: str, reason: str) -> None:
        try:
            after = request_cancel(order_id=order.pk, by=_person(by), reason=reason)
        except CancelRefused as refused:
            raise CommandError(str(refused), returncode=REFUSED) from refused
        asked = "it ended unsent" if after.status == "CANCELED" else "asked for; `orders show` tells what came of it"
        self.stdout.write(f"cancel of {after.client_order_id} ({after.status}): {asked}")


def _order(name: str) -> Order:
    rows = Order.objects.select_related("instrument")
    known = rows.filter(pk=int(name)) if name.isascii() and name.isdigit() else rows.filter(client_order_id=name)
    order = known.first()
    if order is None:
        raise CommandError(f"there is no order {name}", returncode=REFUSED)
    return order


def _line(order: Order) -> str:
    asked = ", cancel asked for" if order.cancel_asked_at and order.status not in ENDED else ""
    unclear = f", no clear answer to {order.asks} questions" if order.asks else ""
    filled = f"{plain(order.filled_qty)} of {plain(order.quantity)}"
    return (
        f"{order.pk:>6}  {order.client_order_id}  {order.side:<4} {order.instrument.symbol:<10} {filled} limit "
        f"{plain(order.limit_price)}  {order.status}{asked}{unclear}  {order.reason}"
    ).rstrip()


def _as_json(order: Order) -> dict[str, Any]:
    return {
        "order": order.pk, "client_order_id": order.client_order_id, "symbol": order.instrument.symbol,
        "side": order.side, "quantity": plain(order.quantity), "filled": plain(order.filled_qty),
        "limit_price": plain(order.limit_price), "status": order.status, "reason": order.reason,
        "cancel_asked": order.cancel_asked_at is not None, "asks": order.asks,
    }  # fmt: skip


def _person(name: str) -> str:
    try:
        return name.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CommandError("your user has no name here: say who with --by", returncode=REFUSED) from error
