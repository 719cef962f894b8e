"""Venues: whoever takes orders. The paper venue keeps books of its own, so asking it means something."""
