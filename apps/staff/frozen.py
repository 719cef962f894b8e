"""Rows that are written once."""

from __future__ import annotations

from typing import Any

from django.db import models


class Frozen(Exception):
    """A row that others rely on is never changed and never deleted: what follows it is a new row."""


class FrozenRow(models.Model):
    """Written once. A trigger of the database says the same to whoever passes the models by."""

    class Meta:
        abstract = True

    def save(self, *_: Any, **options: Any) -> None:
        """Insert. Raises `Frozen` for a row that is stored already."""
        if not self._state.adding:
            raise Frozen(f"{self} is frozen: add a new one")
        super().save(**options)

    def delete(self, *_: Any, **_options: Any) -> tuple[int, dict[str, int]]:
        """Raises `Frozen`."""
        raise Frozen(f"{self} is frozen: it stays")
