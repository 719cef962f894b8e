"""Limits that cannot be meant are refused with the reason, kept, and move nothing."""

from __future__ import annotations

import io
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.portfolio.models import Account
from apps.risk.models import LimitsRefusal, RiskLimits
from apps.risk.services import LimitError, change_limits, parse_limits
from apps.risk.services.limits import AT_MOST, BELOW, FRACTIONS, NAMES, RANGES, contradiction
from tests.worlds import open_world

D = Decimal


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("risk", "limits", *arguments, stdout=output)
    return output.getvalue()


def refused(*assignments: str) -> str:
    with pytest.raises(CommandError) as refusal:
        run("set", *assignments, "--reason", "a try", "--by", "mara")
    assert refusal.value.returncode == 2
    return str(refusal.value)


@pytest.mark.parametrize("name", sorted(FRACTIONS))
@pytest.mark.parametrize(("given_text", "meant"), [("30", "0.30"), ("5", "0.05"), ("2.5", "0.025"), ("10", "0.10")])
def test_a_percentage_is_answered_with_the_fraction_that_is_meant(name: str, given_text: str, meant: str) -> None:
    with pytest.raises(LimitError) as refusal:
        parse_limits([f"{name}={given_text}"])
    smallest, largest = RANGES[name]
    assert ("write " in str(refusal.value)) is (smallest <= D(meant) <= largest)
    if "write " in str(refusal.value):
        assert str(refusal.value).endswith(f": for {given_text} per cent write {meant}")


@pytest.mark.parametrize("name", sorted(RANGES))
@pytest.mark.parametrize(
    "text",
    ["-1", "-0.05", "NaN", "nan", "inf", "-Infinity", "1e-1", "1E2", "0x10", "0,3", "1_000", " 1", "", "+1", "١"],
)
def test_what_is_no_plain_number_is_refused_for_every_limit(name: str, text: str) -> None:
    with pytest.raises(LimitError, match=f"^{name}="):
        parse_limits([f"{name}={text}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sizing=half", "sizing='half' is not one of fixed_fraction, fixed_notional, volatility"),
        ("trading_day_zone=Mars/Base", "'Mars/Base' is no time zone such as Europe/Berlin or UTC"),
        ("trading_day_zone=", "is no time zone"),
        ("bad_tick=0.05", "from 0.1 to 1"),
        ("error_rate_orders_min=201", "is not a whole number from 1 to 200"),
        ("reconcile_orders_age_max_ms=19999", "is not a whole number from 20"),
        ("reconcile_full_age_max_ms=119999", "is not a whole number from 120"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_for_limits_that_are_names(text: str, words: str) -> None:
    with pytest.raises(LimitError) as refusal:
        parse_limits([text])
    assert words in str(refusal.value)


CONTRADICTIONS = [
    (("order_size=0.06",), "order_size=0.06 is above order_notional_max=0.05"),
    (("order_notional_max=0.2",), "order_notional_max=0.2 is above position_max=0.1"),
    (("position_max=0.6",), "position_max=0.6 is above exposure_max=0.5"),
    (("exposure_max=0.09",), "position_max=0.1 is above exposure_max=0.09"),
    (("orders_per_second_max=61",), "orders_per_second_max=61 is above orders_per_minute_max=60"),
    (("orders_per_day_max=59",), "orders_per_minute_max=60 is above orders_per_day_max=59"),
    (("open_orders_symbol_max=11",), "open_orders_symbol_max=11 is above open_orders_max=10"),
    (("day_loss_reducing=0.07",), "day_loss_reducing=0.07 is not below day_loss_halted=0.07"),
    (("drawdown_halted=0.04",), "drawdown_reducing=0.05 is not below drawdown_halted=0.04"),
    (("collar=0.15",), "collar=0.15 is above exit_band=0.1"),
    (("feed_age_max_ms=20000",), "feed_age_max_ms=20000 is above feed_silence_max_ms=10000"),
    (("feed_silence_max_ms=1000",), "feed_age_max_ms=2000 is above feed_silence_max_ms=1000"),
    (
        ("reconcile_orders_age_max_ms=200000",),
        "reconcile_orders_age_max_ms=200000 is above reconcile_full_age_max_ms=180000",
    ),
    (("reconcile_balance_max=6000",), "reconcile_balance_max=6000 is above reconcile_book_max=5000"),
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(("assignments", "words"), CONTRADICTIONS)
def test_limits_that_contradict_each_other_are_refused_and_kept_and_move_nothing(
    assignments: tuple[str, ...], words: str
) -> None:
    world = open_world()
    before = Account.objects.get(pk=world.account.pk).sequence
    assert refused(*assignments) == words
    kept = LimitsRefusal.objects.get()
    assert (kept.asked, kept.set_by, kept.reason, kept.why) == (" ".join(assignments), "mara", "a try", words)
    assert RiskLimits.objects.count() == 1
    assert Account.objects.get(pk=world.account.pk).sequence == before


@pytest.mark.django_db
def test_a_percentage_is_kept_as_it_was_typed() -> None:
    open_world()
    assert refused("exposure_max=30").endswith(": for 30 per cent write 0.30")
    assert LimitsRefusal.objects.get().asked == "exposure_max=30"


@pytest.mark.django_db
def test_one_wrong_limit_stops_the_right_ones_too() -> None:
    open_world()
    refused("open_orders_max=5", "collar=0,3")
    assert RiskLimits.objects.get().open_orders_max == 10


@pytest.mark.django_db
def test_two_limits_that_only_fit_together_are_set_together() -> None:
    world = open_world()
    refused("position_max=0.6")
    run("set", "position_max=0.6", "exposure_max=0.8", "--reason", "both", "--by", "mara")
    newest = RiskLimits.objects.order_by("-version")[0]
    assert (newest.version, newest.position_max, newest.exposure_max) == (2, D("0.6"), D("0.8"))
    assert newest.account == world.account


@pytest.mark.django_db
def test_the_command_shows_and_sets_every_limit() -> None:
    open_world()
    shown = {line.split()[0]: line.split()[1] for line in run().splitlines()[1:]}
    assert set(shown) == set(NAMES)
    output = run(
        "set", "sizing=volatility", "trading_day_zone=Europe/Berlin", "order_notional=2500", "repeat_max=5",
        "--reason", "another style", "--by", "mara",
    )  # fmt: skip
    for change in ("fixed_fraction -> volatility", "UTC -> Europe/Berlin", "1000 -> 2500", "3 -> 5"):
        assert change in output
    again = run("set", *(f"{name}={value}" for name, value in shown.items()), "--reason", "as before", "--by", "mara")
    assert "volatility -> fixed_fraction" in again


@pytest.mark.django_db
def test_the_defaults_contradict_nothing() -> None:
    limits = RiskLimits.objects.get(account=open_world().account)
    assert contradiction({name: getattr(limits, name) for name in NAMES}) == ""


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_limits_that_are_accepted_are_in_order(data: st.DataObject) -> None:
    names = {name for pair in (*AT_MOST, *BELOW) for name in pair}
    values: dict[str, Any] = {name: D(data.draw(st.integers(1, 9), label=name)) / 10 for name in sorted(names)}
    found = contradiction(values)
    if not found:
        assert all(values[small] <= values[large] for small, large in AT_MOST)
        assert all(values[small] < values[large] for small, large in BELOW)
    chain = ["order_size", "order_notional_max", "position_max", "exposure_max"]
    if any(values[small] > values[large] for small, large in pairwise(chain)):
        assert found


@pytest.mark.django_db
def test_nothing_below_the_command_sets_limits_that_contradict_each_other() -> None:
    account = open_world().account
    with pytest.raises(LimitError, match="is above"):
        change_limits(account_id=account.pk, changes={"order_size": D("0.9")}, set_by="mara", reason="x")
    assert RiskLimits.objects.count() == 1
