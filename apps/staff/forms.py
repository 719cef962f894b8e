"""Forms that several staff pages share."""

from __future__ import annotations

from typing import Final

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

REASON_MAX: Final = 200


class ReasonForm(forms.Form):
    """Why somebody does this: one line, kept with it."""

    reason = forms.CharField(max_length=REASON_MAX, widget=UnfoldAdminTextInputWidget)
