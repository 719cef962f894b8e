"""Queries of one shape, compiled once per process: on the way of an order the ORM spends more time on making SQL than
PostgreSQL on answering it.

A `Read` is an ordinary queryset as a function of its values. At the first call Django compiles it with placeholders in
their stead; from then on only the values are put in. What comes back are the models or tuples that the queryset gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row")
Value = int | str

_FIRST_INT: Final = 31_640  # fits the smallest integer column; no query of ours names such a number itself


class Read(Generic[Row]):
    """`Read(build, int, str)`: `build` takes one value per type and returns a queryset whose shape depends on none.

    A value may be compared and computed with in SQL; it must not be sliced with, turned into another value in Python,
    or be None. The queryset must not prefetch. Raises `ValueError` at the first call if a value is not found again.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Row]], *types: type[Value]) -> None:
        self._build = build
        self._marks: list[Value] = [
            _FIRST_INT + number if kind is int else f"value {number} of {len(types)}"
            for number, kind in enumerate(types)
        ]
        self._compiled: _Compiled | None = None

    def rows(self, *values: Value) -> list[Row]:
        """What the queryset gives for these values. One query."""
        if self._compiled is None:
            self._compiled = _Compiled(self._build(*self._marks), self._marks)
        return self._compiled.rows(values)

    def first(self, *values: Value) -> Row | None:
        """The first row, as the queryset orders them, None if there is none."""
        return next(iter(self.rows(*values)), None)


class _Compiled:
    """A queryset's SQL, and what makes its rows into what it gives."""

    def __init__(self, queryset: QuerySet[Any, Any], marks: list[Value]) -> None:
        self._compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        self._sql, parameters = self._compiler.as_sql()
        self._values = list(parameters)
        self._locks = bool(queryset.query.select_for_update)
        self._places = [(place, marks.index(value)) for place, value in enumerate(self._values) if value in marks]
        if {number for _, number in self._places} != set(range(len(marks))):
            raise ValueError(f"not every value is a parameter of its own in: {self._sql}")
        self._iterable: Any = queryset._iterable_class
        self._shape = {"db": DEFAULT_DB_ALIAS, "model": queryset.model, "_known_related_objects": {}}

    def rows(self, values: tuple[Value, ...]) -> list[Any]:
        given = self._values.copy()
        for place, number in self._places:
            given[place] = values[number]
        connection = connections[DEFAULT_DB_ALIAS]
        if self._locks and connection.get_autocommit():
            raise TransactionManagementError("a row is locked within a transaction only")
        with connection.cursor() as cursor:
            cursor.execute(self._sql, given)
            found = cursor.fetchall()
        return list(self._iterable(SimpleNamespace(**self._shape, query=_Answered(self._compiler, found))))


class _Answered:
    """Stands for a query whose rows have been fetched, towards the iterables of a queryset."""

    def __init__(self, compiler: SQLCompiler, rows: list[tuple[Any, ...]]) -> None:
        self._compiler = copy.copy(compiler)  # several threads may be reading
        self._compiler.execute_sql = lambda *_, **__: [rows]  # type: ignore[method-assign, assignment]

    def get_compiler(self, *_: object, **__: object) -> SQLCompiler:
        return self._compiler
