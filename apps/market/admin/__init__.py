"""What the market did and what its feed lived through, as staff can read it; and what staff may ask of the feed."""

from apps.market.admin import archive, connections, ledger, screening, tables

__all__ = ["archive", "connections", "ledger", "screening", "tables"]
