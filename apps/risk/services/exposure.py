"""The stored exposure: recomputed at every commit that changes it, and compared with what was stored before."""

from __future__ import annotations

import logging
from decimal import Decimal

from apps.engine.desk.book import Book, MarkSet
from apps.engine.money import exact, to_money
from apps.portfolio.models import Account
from apps.portfolio.selectors import read_book
from apps.risk.models import RiskState

log = logging.getLogger(__name__)


@exact
def difference(state: RiskState, book: Book) -> Decimal:
    """Stored exposure less the one recomputed on the same marks; 0 unless a row was changed behind our back."""
    return state.exposure - to_money(book.exposure(MarkSet.from_json(state.marks).prices))


def store_exposure(*, account: Account, symbol: str, price: Decimal) -> RiskState:
    """After a fill or a release, under the account's lock: exposure on the marks of the last decision.

    `price` marks `symbol` if those marks do not name it.
    """
    state = RiskState.objects.get(account=account)
    book = read_book(account.pk)
    known = MarkSet.from_json(state.marks)
    marks = known.narrowed({*known.prices, *book.symbols}, MarkSet(None, {symbol: price}))
    state.exposure = to_money(book.exposure(marks.prices))
    state.marks = marks.as_json()
    state.sequence = account.sequence
    state.save(update_fields=["exposure", "marks", "sequence"])
    return state
