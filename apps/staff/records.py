"""Admin classes for records of what happened: they can be read, searched and followed, and not touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.paginator import InfinitePaginator

from apps.staff import columns
from apps.staff.columns import Column

ROWS_PER_PAGE = 50


class _ReadOnly:
    """No permission to change anything, not even for a superuser: history is not edited, it is added to."""

    def has_add_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False


class Record(_ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Field names in `list_display` are shown by `columns.of_field`; `road` are columns that lead to other records."""

    actions = None
    list_per_page = ROWS_PER_PAGE
    list_filter_sheet = True
    list_before_template = "admin/table_words.html"
    words: ClassVar[str] = ""
    """What stands in this table and when its first row appears; shown above the list."""
    road: ClassVar[Sequence[Column]] = ()
    """Columns shown first on the detail page."""
    formats: ClassVar[dict[str, Column]] = {}
    """Columns that replace the usual rendering of a field, by field name."""
    signed: ClassVar[frozenset[str]] = frozenset()
    """Fields that are results or changes, so a gain carries a plus."""
    prefetch: ClassVar[Sequence[str]] = ()
    """Relations that the list's columns follow backwards."""
    hidden: ClassVar[frozenset[str]] = frozenset()
    """Fields that the detail page leaves out because `road` or `formats` says it better."""

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        queryset: models.QuerySet[Any] = super().get_queryset(request)
        if self.list_select_related:
            queryset = queryset.select_related(*self.list_select_related)
        return queryset.prefetch_related(*self.prefetch)

    def get_list_display(self, _request: HttpRequest) -> list[str | Column]:
        return [self._column(name) for name in self.list_display]

    def get_fields(self, _request: HttpRequest, _obj: models.Model | None = None) -> list[str | Column]:
        shown = [field.name for field in self.model._meta.concrete_fields if field.name not in self.hidden]
        return [*self.road, *(self._column(name) for name in shown)]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[str | Column]:
        return self.get_fields(request, obj)

    def _column(self, name: str | Column) -> str | Column:
        return _column(self.model, name, self.formats, self.signed)


class LongRecord(Record):
    """A table with so many rows that its pages are walked and never counted."""

    paginator = InfinitePaginator
    show_full_result_count = False


class RecordInline(_ReadOnly, TabularInline):  # type: ignore[misc]
    """Rows of a record, below it."""

    extra = 0
    can_delete = False
    show_change_link = True
    signed: ClassVar[frozenset[str]] = frozenset()

    def get_fields(self, _request: HttpRequest, _obj: models.Model | None = None) -> list[str | Column]:
        return [_column(self.model, name, {}, self.signed) for name in self.fields or ()]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[str | Column]:
        return self.get_fields(request, obj)


def _column(
    model: type[models.Model], name: str | Column, formats: dict[str, Column], signed: frozenset[str]
) -> str | Column:
    if callable(name):
        return name
    if name in formats:
        return formats[name]
    field = next((field for field in model._meta.concrete_fields if field.name == name), None)
    return (field and columns.of_field(field, signed=name in signed)) or name
