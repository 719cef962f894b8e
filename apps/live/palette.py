"""What the command palette (Ctrl+K) finds besides tables: pages by name, symbols by prefix, orders by exact id.

Results are cached for minutes by unfold, so they carry no numbers.
"""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse
from unfold.dataclasses import SearchResult

from apps.execution.models import Order
from apps.market.models import Instrument

SYMBOLS_MAX = 10
PAGES = (
    ("Live", "What happens now", "live:board", "live state connection equity"),
    ("Feed", "What arrives, and what of it is proven", "live:feed", "feed connection coverage gap lease screener"),
)


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    found = [
        SearchResult(title=title, description=text, link=reverse(name), icon="monitoring")
        for title, text, name, words in PAGES
        if any(word.startswith(term.lower()) for word in words.split())
    ]
    if request.user.has_perm("market.view_instrument"):
        found += [
            _symbol(row) for row in Instrument.objects.filter(symbol__istartswith=term).order_by("-id")[:SYMBOLS_MAX]
        ]
    if request.user.has_perm("execution.view_order"):
        found += [_order(row) for row in Order.objects.filter(client_order_id=term).select_related("instrument")]
    return found


def _symbol(row: Instrument) -> SearchResult:
    link = reverse("admin:market_instrument_change", args=(row.pk,))
    return SearchResult(
        title=row.symbol, description=f"Instrument of {row.source}", link=link, icon="currency_exchange"
    )


def _order(row: Order) -> SearchResult:
    link = reverse("admin:execution_order_change", args=(row.pk,))
    return SearchResult(
        title=row.client_order_id, description=f"Order in {row.instrument}", link=link, icon="receipt_long"
    )
