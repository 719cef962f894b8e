"""The ledger is only added to; corrections; what a venue has against what we say we have."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from django.db import InternalError, connection, transaction
from django.db.utils import IntegrityError

from apps.engine.portfolio import Leg, LegKind
from apps.portfolio.models import Account, Correction, LedgerEntry
from apps.portfolio.selectors import cash_differences, ledger_balances
from apps.portfolio.services import CorrectionRefused, lock_account, post_correction, reversal_legs, save_account
from apps.staff.frozen import Frozen
from tests.worlds import World, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def cash_and_capital(amount: str, currency: str = "USDT") -> list[Leg]:
    return [Leg(LegKind.CASH, currency, D(amount)), Leg(LegKind.CAPITAL, currency, -D(amount))]


def correct(
    world: World,
    legs: Sequence[Leg],
    *,
    reason: str = "the venue paid interest",
    by: str = "mara",
    approved_by: str = "oli",
    reverses: str = "",
) -> Correction:
    with transaction.atomic():
        account = lock_account(world.account.pk)
        row = post_correction(
            account=account, legs=legs, reason=reason, by=by, approved_by=approved_by, reverses=reverses
        )
        save_account(account)
    return row


# --- frozen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE portfolio_ledgerentry SET amount = amount + 1",
        "UPDATE portfolio_ledgerentry SET reference = reference",
        "DELETE FROM portfolio_ledgerentry",
        "UPDATE portfolio_correction SET reason = 'another'",
        "DELETE FROM portfolio_correction",
    ],
)
def test_the_database_refuses_to_change_or_delete_what_is_in_the_ledger(statement: str) -> None:
    world = open_world()
    correct(world, cash_and_capital("1"))
    before = list(LedgerEntry.objects.order_by("pk").values())
    with (
        pytest.raises((IntegrityError, InternalError), match="never changed or deleted"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert list(LedgerEntry.objects.order_by("pk").values()) == before


def test_the_models_refuse_it_before_the_database_is_asked() -> None:
    open_world()
    row = LedgerEntry.objects.first()
    assert row is not None
    with pytest.raises(Frozen):
        row.save()
    with pytest.raises(Frozen):
        row.delete()


@pytest.mark.parametrize("change", ["config = '{}'", "mode = 'LIVE'", "seed = seed + 1", "quote_asset = 'USDC'"])
def test_what_a_session_was_begun_with_cannot_be_changed(change: str) -> None:
    open_world()
    with (
        pytest.raises((IntegrityError, InternalError), match="begin another session"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"UPDATE portfolio_tradingsession SET {change}")


@pytest.mark.django_db(transaction=True)
def test_a_test_database_can_still_be_emptied() -> None:
    """Django empties tables with TRUNCATE, which no trigger of rows sees; this test ends with that."""
    world = open_world()
    correct(world, cash_and_capital("1"))
    assert LedgerEntry.objects.count() == 4


# --- corrections ------------------------------------------------------------------------------------------------------


def test_a_correction_moves_cash_with_a_number_a_reason_and_two_names() -> None:
    world = open_world()
    first = correct(world, cash_and_capital("12.5"))
    second = correct(world, cash_and_capital("-2.5"), reason="  too   much ")
    assert [(row.number, row.reference) for row in (first, second)] == [(1, "correction:1"), (2, "correction:2")]
    assert (second.reason, second.made_by, second.approved_by) == ("too much", "mara", "oli")
    account = Account.objects.get(pk=world.account.pk)
    assert (account.cash, account.sequence) == (D("100010"), second.sequence)
    legs = LedgerEntry.objects.filter(reference="correction:1").order_by("leg").values_list("kind", "amount")
    assert list(legs) == [("cash", D("12.5")), ("capital", D("-12.5"))]


def test_a_coin_is_corrected_as_an_asset() -> None:
    world = open_world()
    correct(world, [Leg(LegKind.ASSET, "MX", D(3)), Leg(LegKind.VENUE, "MX", D(-3))])
    assert ledger_balances(world.account) == {"USDT": D(100_000), "MX": D(3)}


def test_a_reference_is_taken_back_once() -> None:
    world = open_world()
    correct(world, cash_and_capital("12.5"))
    account = Account.objects.get(pk=world.account.pk)
    correct(world, reversal_legs(account, "correction:1"), reverses="correction:1")
    assert world.cash() == D(100_000)
    with pytest.raises(CorrectionRefused, match="taken back already, by correction:2"):
        reversal_legs(account, "correction:1")
    with pytest.raises(IntegrityError), transaction.atomic():
        correct(world, cash_and_capital("-12.5"), reverses="correction:1")
    with pytest.raises(CorrectionRefused, match="has no trade:paper:9"):
        reversal_legs(account, "trade:paper:9")


ASSET = LegKind.ASSET
WRONG_LEGS = [
    ([], "2 to 50 legs"),
    ([Leg(LegKind.CASH, "USDT", D(1))], "2 to 50 legs"),
    ([*cash_and_capital("1")[:1], Leg(LegKind.CAPITAL, "USDT", D(-2))], "USDT add up to -1"),
    ([*cash_and_capital("1")[:1], Leg(LegKind.CAPITAL, "USDC", D(-1))], "USDC add up to -1"),
    (cash_and_capital("0"), "no amount"),
    (cash_and_capital("NaN"), "no amount"),
    (cash_and_capital("Infinity"), "no amount"),
    (cash_and_capital("1e30"), "no amount"),
    (cash_and_capital("1e-19"), "finer than"),
    (cash_and_capital("-100000.01"), "cash would be -0.01 USDT"),
    (cash_and_capital("5", "EUR"), "cash is USDT here"),
]


@pytest.mark.parametrize(("legs", "words"), WRONG_LEGS, ids=[words for _, words in WRONG_LEGS])
def test_legs_that_cannot_be_right_are_refused_and_move_nothing(legs: list[Leg], words: str) -> None:
    world = open_world()
    with pytest.raises(CorrectionRefused, match=words):
        correct(world, legs)
    assert (world.cash(), LedgerEntry.objects.count(), Correction.objects.count()) == (D(100_000), 2, 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reason": " "}, "reason must have"),
        ({"reason": "x" * 201}, "reason must have"),
        ({"by": ""}, "by must have"),
        ({"approved_by": ""}, "a second person"),
        ({"approved_by": " Mara"}, "cannot approve a correction of their own"),
    ],
)
def test_a_correction_without_a_reason_or_a_second_person_is_refused(fields: dict[str, str], words: str) -> None:
    world = open_world()
    with pytest.raises(CorrectionRefused, match=words):
        correct(world, cash_and_capital("1"), **fields)
    assert LedgerEntry.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_correction_outside_of_a_transaction_is_refused() -> None:
    world = open_world()
    with pytest.raises(CorrectionRefused, match="lock"):
        post_correction(account=world.account, legs=cash_and_capital("1"), reason="r", by="mara", approved_by="oli")


# --- the venue's balances ---------------------------------------------------------------------------------------------


def test_equal_balances_are_no_difference() -> None:
    world = open_world()
    assert cash_differences(world.account, {"USDT": D("100000.000"), "XRP": D(0)}) == []


def test_each_currency_in_which_the_venue_has_more_or_less_is_named_once() -> None:
    world = open_world()
    correct(world, [Leg(ASSET, "MX", D(3)), Leg(LegKind.VENUE, "MX", D(-3))])
    found = cash_differences(world.account, {"USDT": D("99999.5"), "XRP": D(2)})
    assert [(row.currency, row.ledger, row.venue, row.difference) for row in found] == [
        ("MX", D(3), D(0), D(-3)), ("USDT", D(100_000), D("99999.5"), D("-0.5")), ("XRP", D(0), D(2), D(2)),
    ]  # fmt: skip
