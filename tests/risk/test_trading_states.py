"""The trading state by account, strategy and symbol: its table, and the strictest of the three."""

from __future__ import annotations

import io
import itertools

import pytest
from django.core.management import CommandError, call_command

from apps.portfolio.models import Account
from apps.risk.models import (
    RiskDecision,
    RiskState,
    RiskStateChange,
    ScopedState,
    TradingState,
)
from apps.risk.scopes import STRICTNESS, effective_state
from apps.risk.services import change_state
from apps.risk.services.states import SYSTEM, TRANSITIONS, By, StateRefused
from tests.risk.stating import ACTIVE, held, set_state, trading_world
from tests.worlds import open_world

pytestmark = pytest.mark.django_db


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("was", "becomes"), list(itertools.permutations(TradingState, 2)))
@pytest.mark.parametrize("who", ["mara", SYSTEM])
def test_a_person_moves_a_state_anywhere_and_a_rule_only_along_the_table(
    was: TradingState, becomes: TradingState, who: str
) -> None:
    world = open_world()
    account = Account.objects.get(pk=world.account.pk)
    RiskState.objects.update(trading_state=was, asked_state=was)
    row = change_state(account=account, state=world.state, to_state=becomes, set_by=who, reason="a test")
    stricter = STRICTNESS[becomes] > STRICTNESS[was]
    by = By.PERSON if who == "mara" else By.TRIP if stricter else By.WAY_BACK
    assert by in TRANSITIONS[was, becomes]
    assert row is not None
    assert (row.from_state, row.to_state, row.set_by, world.state.trading_state) == (was, becomes, who, becomes)


def test_no_rule_makes_a_state_laxer_and_no_way_back_makes_it_stricter() -> None:
    assert len(TRANSITIONS) == 6
    for (was, becomes), who in TRANSITIONS.items():
        stricter = STRICTNESS[becomes] > STRICTNESS[was]
        assert (By.TRIP in who, By.WAY_BACK in who, By.PERSON in who) == (stricter, not stricter, True)


# --- the strictest holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_account", "of_strategy", "of_symbol"), list(itertools.product(TradingState, repeat=3)))
def test_the_strictest_of_account_strategy_and_symbol_holds_for_a_decision_and_says_which_it_is(
    of_account: str, of_strategy: str, of_symbol: str
) -> None:
    world = trading_world()
    set_state(world, of_account)
    set_state(world, of_strategy, "strategy", "momentum")
    set_state(world, of_symbol, "symbol", "XRPUSDT")
    holds, words = effective_state(world.account.pk, "momentum", "XRPUSDT")
    strictest = max((of_account, of_strategy, of_symbol), key=lambda state: STRICTNESS[state])
    assert holds == strictest
    about = [name for name, state in (("", of_account), ("momentum", of_strategy), ("XRPUSDT", of_symbol))
             if state == strictest]  # fmt: skip
    assert (words == "") == (strictest == ACTIVE)
    assert strictest == ACTIVE or any(words.startswith(f"for {name} since" if name else "since") for name in about)
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert decision.trading_state == strictest
    assert (decision.verdict == "approved") == (strictest == ACTIVE)
    assert words in decision.sentence


def test_a_halted_symbol_stops_its_own_exits_and_nothing_of_another_symbol() -> None:
    world = trading_world("XRPUSDT", "ADAUSDT")
    position = held(world)
    set_state(world, "HALTED", "symbol", "XRPUSDT")
    denied = world.decide(world.exit_signal(position))
    assert denied is not None
    assert denied.reasons == ["HALTED"]
    assert "for XRPUSDT since" in denied.sentence
    world.approved(world.entry_signal("ADAUSDT"))
    done = set_state(world, "ACTIVE", "symbol", "XRPUSDT")
    assert (done.open_positions, done.exits_brought_back) == (1, 1)


def test_a_reducing_strategy_lets_its_exits_through() -> None:
    world = trading_world()
    position = held(world)
    set_state(world, "REDUCING", "strategy", "momentum")
    world.approved(world.exit_signal(position))
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert "REDUCING" in decision.reasons
    assert "for momentum since" in decision.sentence


def test_every_change_of_a_scope_is_kept_with_its_scope_and_a_sequence_number() -> None:
    world = trading_world()
    before = Account.objects.get(pk=world.account.pk).sequence
    set_state(world, "HALTED", "symbol", "XRPUSDT")
    set_state(world, "ACTIVE", "symbol", "XRPUSDT")
    rows = RiskStateChange.objects.order_by("sequence").values_list("scope", "subject", "from_state", "to_state")
    assert list(rows) == [("symbol", "XRPUSDT", "ACTIVE", "HALTED"), ("symbol", "XRPUSDT", "HALTED", "ACTIVE")]
    assert Account.objects.get(pk=world.account.pk).sequence == before + 2
    assert world.state.trading_state == ACTIVE


@pytest.mark.parametrize(
    ("scope", "subject"), [("strategy", "astrology"), ("symbol", "NOUSDT"), ("symbol", ""), ("account", "XRPUSDT")]
)
def test_a_scope_that_the_session_does_not_have_is_refused(scope: str, subject: str) -> None:
    world = trading_world()
    with pytest.raises(StateRefused, match="the session has no"):
        set_state(world, "HALTED", scope, subject)
    assert not ScopedState.objects.exists()
    assert not RiskStateChange.objects.exists()


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("risk", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_changes_one_scope_and_shows_them_all() -> None:
    trading_world()
    assert "XRPUSDT: ACTIVE -> HALTED by mara: odd" in run(
        "halt", "--symbol", "xrpusdt", "--reason", "odd", "--by", "mara"
    )
    assert "momentum: ACTIVE -> REDUCING" in run("reduce", "--strategy", "momentum", "--reason", "odd")
    shown = run("show")
    assert shown.startswith("ACTIVE since")
    assert "symbol XRPUSDT: HALTED since" in shown
    assert "strategy momentum: REDUCING since" in shown
    run("resume", "--symbol", "XRPUSDT", "--reason", "fine")
    assert "XRPUSDT" not in run("show")


def test_the_command_says_that_a_halt_stops_exits_too() -> None:
    trading_world()
    assert "exits neither" in run("halt", "--reason", "odd")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--symbol", "NOUSDT"], "the session has no symbol 'NOUSDT'"),
        (["--strategy", "astrology"], "the session has no strategy 'astrology'"),
    ],
)
def test_the_command_refuses_what_the_session_does_not_have(arguments: list[str], words: str) -> None:
    trading_world()
    with pytest.raises(CommandError, match=words) as refused:
        run("halt", *arguments, "--reason", "odd")
    assert refused.value.returncode == 2
    assert not RiskDecision.objects.exists()
