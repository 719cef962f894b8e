"""Backtests as staff sees them: asked for, watched, cancelled, and run again with something changed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.backtest import selectors
from apps.backtest.models import UNDER_WAY, BacktestRun, ParityAudit
from apps.backtest.services import runs
from apps.backtest.values import DEFAULT_CAPITAL, BacktestRefused, Request, parse_request, shown_instant
from apps.staff import numbers
from apps.staff.columns import links, named
from apps.staff.records import Record

# By the names of methods: a permission's own name would be looked up in the database at every start of a process.
MAY_RUN = ["run"]
MAY_CANCEL = ["cancel"]
MONEY_DECIMALS: Final = 2


def _line(help_text: str, *, required: bool = True, initial: str = "") -> forms.CharField:
    return forms.CharField(
        max_length=200, required=required, initial=initial, help_text=help_text, widget=UnfoldAdminTextInputWidget
    )


class RunForm(forms.Form):
    """What to simulate, in the words of `manage.py backtest`. Files are named there only, where the shell asks who."""

    strategy = _line("its name, or name:version, such as momentum or momentum:3", initial="momentum")
    first = _line("a day such as 2026-11-21 or a time such as 2026-11-21T06:40, UTC", required=False)
    last = _line("the same; a day is included", required=False)
    symbols = _line("apart by commas, such as BTCUSDT,ETHUSDT", required=False)
    changes = forms.CharField(
        required=False,
        max_length=2_000,
        widget=UnfoldAdminTextareaWidget,
        help_text="parameters, one a line, such as threshold_pct=1.5; the others stay",
    )
    capital = _line("units of the quote currency", initial=DEFAULT_CAPITAL)
    seed = _line("of the points that a sweep draws; nothing in a run is random", initial="0")

    def __init__(self, *args: Any, trades: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.trades = trades
        self.asked: Request | None = None

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors:
            return data
        try:
            self.asked = parse_request(
                strategy=data["strategy"],
                trades=self.trades,
                first=data["first"],
                last=data["last"],
                symbols=data["symbols"],
                assignments=[line for line in data["changes"].splitlines() if line.strip()],
                capital=data["capital"],
                seed=data["seed"],
            )
        except BacktestRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        return data


def _initial(request: Request) -> dict[str, str]:
    return {
        "strategy": request.strategy + (f":{request.version}" if request.version else ""),
        "first": shown_instant(request.first_ms),
        "last": shown_instant(request.last_ms),
        "symbols": ",".join(request.symbols),
        "changes": "\n".join(f"{name}={value}" for name, value in request.changes.items()),
        "capital": format(request.capital, "f"),
        "seed": str(request.seed),
    }


def figures_table(run: BacktestRun) -> str:
    return render_to_string("admin/backtest/figures.html", {"rows": selectors.figure_rows(run)})


def progress(run: BacktestRun) -> str:
    return numbers.UNKNOWN if run.state not in UNDER_WAY else numbers.percent(Decimal(run.permille) / 1_000, 0)


def title(run: BacktestRun) -> str:
    return run.title


@admin.register(BacktestRun)
class BacktestRunAdmin(Record):
    words = (
        "Simulations by the code that trades: what a strategy would have done with recorded trades. A run is never "
        "edited; run it again with something changed. The first row appears when somebody asks for one."
    )
    list_display = [
        "id", named(title, "title", "what"), "state", named(progress, "progress", "progress"), "result",
        "final_equity", "requested_by", "requested_at",
    ]  # fmt: skip
    list_filter = ["state", "requested_by"]
    list_select_related = ["again_of"]
    search_fields = ["requested_by", "decision_hash__startswith", "words"]
    signed = frozenset({"result"})
    ordering = ["-id"]
    hidden = frozenset({"figures"})
    road = [
        named(title, "title", "What"),
        named(figures_table, "figures_table", "Figures"),
        links("repeats", "Run again as"),
    ]
    actions_list = ["new_run"]
    actions_detail = ["run_again", "cancel_run", "show_report"]

    def has_run_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("backtest.add_backtestrun"))

    def has_cancel_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("backtest.change_backtestrun"))

    @action(description="Run…", url_path="run", permissions=MAY_RUN)  # type: ignore[untyped-decorator]
    def new_run(self, request: HttpRequest) -> HttpResponse:
        return self._ask(request, None)

    @action(description="Run again with…", url_path="again", permissions=MAY_RUN)  # type: ignore[untyped-decorator]
    def run_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask(request, get_object_or_404(BacktestRun, pk=object_id))

    @action(description="Cancel…", url_path="cancel", permissions=MAY_CANCEL)  # type: ignore[untyped-decorator]
    def cancel_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = get_object_or_404(BacktestRun, pk=object_id)
        if request.method == "POST":
            try:
                state = runs.cancel(run=run, now=timezone.now())
            except BacktestRefused as refused:
                messages.error(request, str(refused))
            else:
                self.log_change(request, run, "Cancel")
                messages.success(request, f"Backtest {run.pk} is {state} now.")
            return self._to(run)
        return self._page(request, f"Cancel {run}", "Cancel the run", None, run)

    @action(description="Report", url_path="report", permissions=["view"])  # type: ignore[untyped-decorator]
    def show_report(self, request: HttpRequest, object_id: str) -> HttpResponse | FileResponse:
        """The report's file to keep: shown inside a page of ours, the policy would take its styles away."""
        run = get_object_or_404(BacktestRun, pk=object_id)
        path = selectors.report_path(run)
        if path is None:
            messages.info(request, f"Backtest {run.pk} has no report.")
            return self._to(run)
        return FileResponse(path.open("rb"), as_attachment=True, filename=path.name, content_type="text/html")

    def _ask(self, request: HttpRequest, earlier: BacktestRun | None) -> HttpResponse:
        asked = Request.from_json(earlier.inputs) if earlier else None
        form = RunForm(
            request.POST if request.method == "POST" else None,
            initial=_initial(asked) if asked else {},
            trades=asked.trades if asked else (),
        )
        if request.method == "POST" and form.is_valid() and form.asked is not None:
            run = runs.request_run(request=form.asked, by=request.user.get_username(), again_of=earlier)
            self.log_addition(request, run, "Requested")
            messages.success(request, f"Backtest {run.pk} is waiting for a worker.")
            return self._to(run)
        heading = f"Run {earlier} again" if earlier else "Run a backtest"
        return self._page(request, heading, "Run", form, earlier)

    def _page(
        self, request: HttpRequest, heading: str, button: str, form: RunForm | None, run: BacktestRun | None
    ) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": heading, "button": button, "form": form}
        return TemplateResponse(request, "admin/backtest/ask.html", {**context, "run": run, "opts": self.opts})

    def _to(self, run: BacktestRun) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:backtest_backtestrun_change", args=(run.pk,)))


def both_sides(audit: ParityAudit) -> str:
    return render_to_string("admin/backtest/difference.html", {"rows": selectors.difference_rows(audit)})


def first_difference(audit: ParityAudit) -> str:
    told = audit.difference
    return f"{told['what']} {told['key']}" if told else numbers.UNKNOWN


@admin.register(ParityAudit)
class ParityAuditAdmin(Record):
    words = (
        "Days done again from their stream, in the recorded order of decisions. Equal, or the first thing that came "
        "out differently, with both sides. The first row appears after the first night, or with `manage.py parity`."
    )
    list_display = ["id", "session", "day", "holds", named(first_difference, "first_difference", "first difference")]
    list_filter = ["holds"]
    search_fields = ["session__name"]
    list_select_related = ["session"]
    ordering = ["-id"]
    hidden = frozenset({"difference"})
    road = [named(both_sides, "both_sides", "Both sides")]
