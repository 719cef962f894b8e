"""How the symbols to follow are chosen: rules that staff adds, and every choice with what it was made on."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.loader import render_to_string
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.bus.orders import SYMBOLS_MAX
from apps.market.feed_history import choice_rows
from apps.market.models import ScreenerRule, ScreenerRun
from apps.market.services.ranking import Criteria
from apps.market.services.screener import RuleRefused, check
from apps.staff.columns import links, named
from apps.staff.records import Record

REFRESH_MINUTES_MAX: Final = 7 * 24 * 60
_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,20}")


class SymbolsField(forms.CharField):
    """Symbols apart by blanks or commas, in capitals; cleans to a list without repeats in the given order."""

    widget = UnfoldAdminTextareaWidget

    def clean(self, value: Any) -> list[str]:
        found = list(dict.fromkeys(re.split(r"[\s,]+", (value or "").strip())))
        symbols = [symbol for symbol in found if symbol]
        wrong = [symbol for symbol in symbols if not _SYMBOL.fullmatch(symbol)]
        if wrong:
            raise forms.ValidationError(f"Not a symbol: {', '.join(wrong[:5])}. A symbol is like BTCUSDT, in capitals.")
        if len(symbols) > SYMBOLS_MAX:
            raise forms.ValidationError(f"{len(symbols)} symbols; at most {SYMBOLS_MAX} can be followed.")
        if self.required and not symbols:
            raise forms.ValidationError("Name at least one symbol.")
        return symbols


class ScreenerRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new rule. It is in force from the screener's next turn on, and it is never edited."""

    always = SymbolsField(required=False, help_text="followed whatever their rank; with a fixed list: the list")
    never = SymbolsField(required=False, help_text="never followed; wins over everything else")

    class Meta:
        model = ScreenerRule
        fields = ["mode", "count", "quote_asset", "turnover_min", "always", "never", "refresh_minutes", "reason"]

    def clean_quote_asset(self) -> str:
        return str(self.cleaned_data["quote_asset"]).strip().upper()

    def clean_turnover_min(self) -> Decimal:
        value: Decimal = self.cleaned_data["turnover_min"]
        if value < 0:
            raise forms.ValidationError("A turnover cannot be negative.")
        return value

    def clean_refresh_minutes(self) -> int:
        value: int = self.cleaned_data["refresh_minutes"]
        if not 1 <= value <= REFRESH_MINUTES_MAX:
            raise forms.ValidationError(f"Between 1 and {REFRESH_MINUTES_MAX} minutes.")
        return value

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        lists = frozenset(data["always"]), frozenset(data["never"])
        try:
            check(Criteria(data["mode"], data["count"], data["quote_asset"], data["turnover_min"], *lists))
        except RuleRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        return data


def symbols_of(name: str, label: str) -> Any:
    return named(lambda row: ", ".join(map(str, getattr(row, name))) or "none", name, label)


@admin.register(ScreenerRule)
class ScreenerRuleAdmin(Record):
    """Rules are added by those who may, with a reason and under their own name; none is ever changed or removed."""

    words = (
        "How the symbols to follow are chosen. The newest rule is in force; a new one takes its place at the "
        "screener's next turn. Rules are not edited. While there is none, the symbols of the start are followed."
    )
    form = ScreenerRuleForm
    list_display = [
        "created_at", "mode", "count", "quote_asset", "turnover_min", symbols_of("always", "always"),
        symbols_of("never", "never"), "refresh_minutes", "author", "reason",
    ]  # fmt: skip
    list_filter = ["mode", "author"]
    search_fields = ["author", "reason", "quote_asset__iexact"]
    ordering = ["-id"]
    road = [links("runs", "Choices")]
    formfield_overrides = {models.CharField: {"widget": UnfoldAdminTextInputWidget}}

    def has_add_permission(self, request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("market.add_screenerrule"))

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_fields(request, obj) if obj is not None else list(ScreenerRuleForm.Meta.fields)

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_readonly_fields(request, obj) if obj is not None else []

    def save_model(self, request: HttpRequest, obj: ScreenerRule, _form: Any, _change: bool) -> None:
        obj.author = request.user.get_username()
        obj.save(force_insert=True)


def choice_table(run: ScreenerRun) -> str:
    return render_to_string("admin/market/choice_table.html", {"rows": choice_rows(run)})


@admin.register(ScreenerRun)
class ScreenerRunAdmin(Record):
    words = (
        "Every choice of symbols with what it was made on: rank, turnover and movement over 24 h, the verdict and "
        "why. The first row appears when a screener rule has had its first turn."
    )
    list_display = [
        "at", "rule", "considered", symbols_of("added", "added"), symbols_of("removed", "removed"), "error", "epoch",
    ]  # fmt: skip
    list_filter = ["epoch"]
    list_select_related = ["rule", "epoch"]
    search_fields = ["error", "rule__author"]
    ordering = ["-id"]
    road = [named(choice_table, "choice", "What it was made on")]
    formats = {"added": symbols_of("added", "added"), "removed": symbols_of("removed", "removed")}
    hidden = frozenset({"rows"})
