"""The form with which staff adds a version of a strategy."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.signals.models import Strategy, StrategyVersion
from apps.signals.services.versions import (
    REASON_MAX,
    VersionRefused,
    add_version,
    checked,
    newest_version,
    parse_assignments,
)


class StrategyVersionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new version: the strategy's newest one with some parameters changed. It is checked by the strategy itself."""

    strategy = forms.ModelChoiceField(Strategy.objects.order_by("name"), widget=UnfoldAdminSelectWidget)
    assignments = forms.CharField(
        label="changes",
        widget=UnfoldAdminTextareaWidget,
        help_text="one per line, e.g. threshold_pct=1.5; what is not named stays as in the newest version",
    )
    reason = forms.CharField(max_length=REASON_MAX, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = StrategyVersion
        fields = ["strategy", "reason"]

    def clean_assignments(self) -> dict[str, str]:
        try:
            return parse_assignments(self.cleaned_data["assignments"].split())
        except VersionRefused as refused:
            raise forms.ValidationError(str(refused)) from refused

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        newest = newest_version(data["strategy"])
        before = {} if newest is None else newest.parameters
        try:
            after = checked(data["strategy"].name, {**before, **data["assignments"]})
        except VersionRefused as refused:
            self.add_error("assignments", str(refused))
            return data
        if newest is not None and after == before and newest.engine_hash == settings.ENGINE_HASH:
            self.add_error("assignments", f"Nothing changes: {newest} has these parameters.")
        return data

    def store(self, author: str) -> StrategyVersion:
        """The new version. Raises `VersionRefused` if somebody else's has come before it and it no longer fits."""
        return add_version(
            name=self.cleaned_data["strategy"].name,
            changes=self.cleaned_data["assignments"],
            author=author,
            reason=self.cleaned_data["reason"],
            engine_hash=settings.ENGINE_HASH,
        )
