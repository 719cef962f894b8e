"""`manage.py ledger`."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.portfolio.models import Correction, LedgerEntry
from tests.worlds import open_world

D = Decimal
WHY = ("--reason", "the venue paid interest", "--by", "mara", "--approved-by", "oli")
LEGS = ("--leg", "cash:usdt:12.5", "--leg", "capital:USDT:-12.5")
pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("ledger", *arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


def test_a_correction_is_posted_shown_and_taken_back() -> None:
    world = open_world()
    assert "correction:1 by mara, approved by oli: the venue paid interest" in run("correct", *LEGS, *WHY)
    assert world.cash() == D("100012.5")
    assert "takes back correction:1" not in run("show")
    run("correct", "--reverse", "correction:1", *WHY)
    assert world.cash() == D(100_000)
    assert "correction:2 by mara, approved by oli, takes back correction:1" in run("show")
    assert "taken back already" in refused("correct", "--reverse", "correction:1", *WHY)


def test_balances_are_those_of_the_ledger() -> None:
    open_world()
    run("correct", "--leg", "asset:MX:-3", "--leg", "fee:MX:3", *WHY)
    assert json.loads(run("balances", "--json"))["balances"] == {"MX": "-3", "USDT": "100000"}
    text = run("balances")
    assert "owed" in text
    assert "cash" in text


def test_the_newest_legs_and_those_of_a_reference_are_shown() -> None:
    world = open_world()
    run("correct", *LEGS, *WHY)
    assert [row["reference"] for row in json.loads(run("show", "--json", "--limit", "3"))] == [
        "deposit", "correction:1", "correction:1",
    ]  # fmt: skip
    rows = json.loads(run("show", "--json", "--reference", "deposit", "--session", str(world.session.pk)))
    assert [(row["kind"], row["amount"]) for row in rows] == [("cash", "100000"), ("capital", "-100000")]
    assert "has no trade:paper:9" in refused("show", "--reference", "trade:paper:9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (WHY, "either --leg"),
        ((*LEGS, "--reverse", "deposit", *WHY), "either --leg"),
        ((*LEGS, *WHY[:-1], "Mara"), "cannot approve"),
        ((*LEGS, *WHY[:-1], " "), "a second person"),
        ((*LEGS[:2], *WHY), "2 to 50 legs"),
        ((*LEGS[:2], "--leg", "capital:USDT:-12", *WHY), "add up to 0.5"),
    ],
)
def test_what_cannot_be_posted_is_refused_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    open_world()
    assert words in refused("correct", *arguments)
    assert (LedgerEntry.objects.count(), Correction.objects.count()) == (2, 0)


@pytest.mark.parametrize("leg", ["cash:USDT", "gold:USDT:1", "cash:USDT:much", "cash:USDT:1:2"])
def test_what_is_no_leg_is_refused(leg: str) -> None:
    open_world()
    with pytest.raises((SystemExit, CommandError)):
        run("correct", "--leg", leg, *WHY)
    assert LedgerEntry.objects.count() == 2


def test_a_session_that_does_not_exist_is_named() -> None:
    assert "there is no session 7" in refused("balances", "--session", "7")
    assert "make demo" in refused("balances")
