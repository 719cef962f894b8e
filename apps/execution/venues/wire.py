"""The ids that an exchange sees. A database that was restored must give none out a second time.

An id of ours follows from what triggered the order, so a restored database makes yesterday's again. What goes over the
wire carries the token of the database's life in which the order was made: the same order keeps its id in every later
life, and the same trigger in another life has another one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from apps.execution.models import DatabaseIncarnation, Order

SEPARATOR: Final = "-"


class WireIds(Protocol):
    """Ids of ours and those that go over the wire, both ways."""

    def out(self, client_order_id: str) -> str: ...

    def ours(self, wire_id: str) -> str:
        """Our id; what no order of ours has is told as it came, so that it is nobody's here."""
        ...


class SameIds:
    """For a venue whose books live and die with ours, and for tests."""

    def out(self, client_order_id: str) -> str:
        return client_order_id

    def ours(self, wire_id: str) -> str:
        return wire_id


class IdsOfThisLife:
    """Each order by the life it was made in. Two short queries a translation."""

    def out(self, client_order_id: str) -> str:
        made = Order.objects.filter(client_order_id=client_order_id).values_list("created_at", flat=True).first()
        return _joined(_token(made), client_order_id)

    def ours(self, wire_id: str) -> str:
        _, _, name = wire_id.rpartition(SEPARATOR)
        made = Order.objects.filter(client_order_id=name).values_list("created_at", flat=True).first()
        return name if made is not None and _joined(_token(made), name) == wire_id else wire_id


def _joined(token: str, client_order_id: str) -> str:
    return f"{token}{SEPARATOR}{client_order_id}" if token else client_order_id


def _token(made: datetime | None) -> str:
    """Of the newest life that had begun when an order was made; of the present one if there is no such order."""
    lives = DatabaseIncarnation.objects.order_by("-id")
    if made is not None:
        lives = lives.filter(created_at__lte=made)
    return lives.values_list("token", flat=True).first() or ""
