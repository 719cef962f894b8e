"""`manage.py explain` and its selector: the chain from the trades on the stream to the ledger."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from django.core.management import call_command

from apps.bus import codec
from apps.engine.events import TradeBlock
from apps.execution.models import Trade
from apps.execution.services import submit_order
from apps.execution.venues.base import VenueStatus
from apps.market.archive.keeping import archive_epoch
from apps.market.segments import SegmentWriter
from apps.ops.explain.asking import NoSubject, explain
from apps.ops.explain.checks import check_parts
from apps.ops.explain.parts import Explanation
from apps.ops.explain.stream import IN_ARCHIVE, IN_SEGMENTS, ON_STREAM
from apps.ops.explain.words import sections
from apps.risk.models import RiskDecision, TripCause
from apps.risk.services.trips import trip_account
from apps.signals.models import Signal
from tests.execution.venues import ScriptedVenue
from tests.factories import SignalFactory, SignalRefusalFactory
from tests.ops.chains import MATURE, Chains, T, open_chains, tear, undecided
from tests.worlds import NOW_MS, fresh, trades

D = Decimal
pytestmark = pytest.mark.django_db


@pytest.fixture
def chains(redis_client: redis.Redis, tmp_path: Path) -> Chains:
    return open_chains(redis_client, tmp_path)


def told(chains: Chains, name: str) -> Explanation:
    return explain(name, now_ms=NOW_MS, sources=chains.sources)


def test_an_order_that_traded_is_told_from_its_trade_on_the_stream_to_its_ledger_legs(chains: Chains) -> None:
    order = chains.traded()
    found = told(chains, order.client_order_id)
    assert (found.ending, found.over, found.missing) == ("traded", True, ())
    trigger = found.stream.trigger
    assert trigger is not None
    assert (found.stream.found_in, trigger.trade_id, trigger.price, trigger.ts_event) == (
        ON_STREAM,
        str(T),
        D("0.5"),
        T,
    )
    assert [trade.price for trade in found.stream.trades] == [D("0.4999"), D("0.5")]
    assert found.strategy is not None
    assert (found.strategy.name, found.strategy.author) == ("momentum", "system")
    assert found.decision is not None
    assert found.decision.limits is not None
    assert (found.decision.limits.version, found.decision.limits.set_by) == (1, "tester")
    assert found.order is not None
    assert [event.event for event in found.order.events] == ["SUBMIT", "ACCEPT", "COMPLETE"]
    assert all(event.after_ms is not None and event.after_ms >= 0 for event in found.order.events[1:])
    fill = found.fills[0]
    assert (fill.price, fill.quantity, fill.fee, fill.ts_event) == (D("0.5003"), D(4_000), D("1.0006"), MATURE)
    assert fill.quote is not None
    assert (fill.quote["ask"], fill.slippage_bps) == ("0.5002", D("2.00"))
    assert found.position is not None
    assert (found.position.opened_by, found.position.quantity) == (order.client_order_id, D(4_000))
    assert found.ledger is not None
    assert found.ledger.cash == -D("2001.2") - D("1.0006")
    assert {amount for _, _, amount in found.ledger.sums} == {D(0)}
    assert {"reached the ingest", "stored", "decided", "booked"} <= {moment.name for moment in found.way}


def test_a_denied_signal_names_the_check_its_sum_its_limit_and_what_would_have_passed(chains: Chains) -> None:
    decision = chains.denied()
    found = told(chains, f"decision:{decision.pk}")
    assert (found.ending, found.ending_words) == ("denied:EXPOSURE", "denied by risk: gross exposure")
    assert found.decision is not None
    check = next(row for row in found.decision.checks if not row.passed)
    assert check.margin == "0 + 2\u202f040 = 2\u202f040 > 2\u202f000 USDT; 40 less would have passed"
    assert (found.order, found.fills, found.position, found.ledger) == (None, (), None, None)
    first = next(section for section in sections(found) if section.name == "checks").lines[0]
    assert (first.label, first.failed) == ("✗ gross exposure", True)


def test_every_name_of_one_chain_leads_to_it(chains: Chains) -> None:
    order = chains.traded()
    trade, decision = Trade.objects.get(), RiskDecision.objects.get()
    names = (
        f"order:{order.pk}", f"order:{order.client_order_id}", order.client_order_id, f"trade:{trade.pk}",
        f"trade:paper:{trade.trade_id}", f"decision:{decision.pk}", f"signal:{decision.signal_id}",
    )  # fmt: skip
    assert {told(chains, name).signal.id for name in names} == {decision.signal_id}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("order:999999", "there is no order '999999'"),
        ("c0ffee", "nothing is called 'c0ffee'"),
        ("signal:" + "9" * 40, "there is no signal"),
        ("", "nothing is called ''"),
        ("signal:x'; DROP TABLE", "there is no signal"),
    ],
)
def test_an_unknown_name_is_told_in_one_line(chains: Chains, name: str, words: str) -> None:
    with pytest.raises(NoSubject, match=words.replace("(", r"\(")) as refused:
        told(chains, name)
    assert "\n" not in str(refused.value)


def test_a_number_that_several_things_have_is_ambiguous(chains: Chains) -> None:
    chains.traded()
    signal = Signal.objects.get()
    order = f"order:{signal.pk}"
    tear("execution_order", "UPDATE execution_order SET id = %s", signal.pk)
    with pytest.raises(NoSubject, match=f"may be signal:{signal.pk}.*{order}.*: say which"):
        told(chains, str(signal.pk))


def test_trades_are_found_in_the_segments_when_the_stream_is_gone(chains: Chains) -> None:
    chains.traded()
    signal = Signal.objects.get()
    writer = SegmentWriter(chains.sources.segments, chains.world.epoch.pk, chains.world.shard())
    before, after = f"{int(signal.entry_id.partition('-')[0]) - 5}-0", f"{int(signal.entry_id.partition('-')[0]) + 5}-0"
    writer.append([(before, codec.encode([trades((T - 9, 4_000))]))])
    writer.append([(signal.entry_id, codec.encode([trades((T, 5_000))])), (after, codec.encode([trades((T + 9, 1))]))])
    writer.close()
    chains.client.flushdb()
    found = told(chains, f"signal:{signal.pk}")
    assert found.stream.found_in == IN_SEGMENTS
    assert [trade.is_trigger for trade in found.stream.trades] == [True]


def archived(chains: Chains, block: TradeBlock, entry_id: str) -> None:
    """The entry as the drain kept it, moved to the archive; stream and segments are gone."""
    chains.client.flushdb()
    segments, epoch = chains.sources.segments, chains.world.epoch
    writer = SegmentWriter(segments, epoch.pk, chains.world.shard())
    writer.append([(entry_id, codec.encode([block]))])
    writer.close()
    kept = archive_epoch(
        epoch=epoch, root=chains.sources.archive, segments=segments, now_ms=NOW_MS, enough=lambda: False, whole=True
    )
    assert not kept.errors
    shutil.rmtree(segments)


def test_an_archived_trade_is_told_from_the_archive(chains: Chains) -> None:
    order = chains.traded()
    signal = Signal.objects.get()
    archived(chains, trades((T - 3, 4_999), (T, 5_000), (T + 60_000, 4_998), ordinal=2), signal.entry_id)
    for subject in (f"trade:{order.trades.get().pk}", order.client_order_id, f"signal:{signal.pk}"):
        found = told(chains, subject)
        assert (found.stream.found_in, found.missing) == (IN_ARCHIVE, ())
        assert [(trade.trade_id, trade.is_trigger) for trade in found.stream.trades] == [
            (str(T - 3), False), (str(T), True), (str(T + 60_000), False),
        ]  # fmt: skip
        assert found.stream.words == "3 trades of its symbol in the entry, read from the archive"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_archived_trade_without_an_id_is_found_by_its_number_within_the_millisecond(
    chains: Chains, number: int
) -> None:
    entry = chains.world.publish(chains.client, trades((T, 5_000)))
    signal = chains.world.entry_signal(ts_event=T, trade_id=f"#{number}", entry_id=entry)
    block = trades((T - 3, 4_999), (T, 5_000), (T, 5_001), (T, 5_002), (T + 1, 5_003))
    archived(chains, replace(block, trade_id=[""] * 5), entry)
    found = told(chains, f"signal:{signal.pk}")
    assert [trade.trade_id for trade in found.stream.trades] == ["#0", "#0", "#1", "#2", "#0"]
    assert [trade.is_trigger for trade in found.stream.trades] == [index == number + 1 for index in range(5)]


def test_trades_that_nobody_has_any_more_are_said_to_be_gone(chains: Chains) -> None:
    chains.traded()
    chains.client.flushdb()
    found = told(chains, f"signal:{Signal.objects.get().pk}")
    assert (found.stream.found_in, found.stream.trades) == ("", ())
    assert found.stream.words.endswith("is gone: neither the stream nor the raw segments nor the archive has it")


def test_a_position_shows_its_exits_and_an_exit_the_order_that_opened_it(chains: Chains) -> None:
    trade = chains.closed()
    found = told(chains, f"trade:{trade.pk}")
    assert found.position is not None
    assert (found.position.status, [row.code for row in found.position.exits]) == ("closed", ["traded"])
    assert found.order is not None
    assert found.order.reducing
    assert found.decision is not None
    assert any("not limited by it" in check.margin or check.passed for check in found.decision.checks)


def test_a_refused_signal_has_a_chain_too(chains: Chains) -> None:
    row = SignalRefusalFactory.create(session=chains.world.session, strategy_version=chains.world.version)
    found = told(chains, f"refusal:{row.pk}")
    assert found.headline == "Refused: 1 minute of its window may lack trades (trades lost on the stream)."
    assert (found.ending, found.decision, found.order) == ("refused", None, None)


def test_a_signal_that_waits_says_so(chains: Chains) -> None:
    signal = undecided(chains.world)
    found = told(chains, f"signal:{signal.pk}")
    assert found.headline.startswith("No decision: ")
    assert not found.over


def test_a_link_that_is_gone_is_named_and_the_rest_is_still_told(chains: Chains) -> None:
    order = chains.traded()
    tear("risk_risklimits", "DELETE FROM risk_risklimits")
    found = told(chains, order.client_order_id)
    assert found.missing == (f"limits version {RiskDecision.objects.get().limits_id}",)
    assert found.fills
    assert any(line.failed and "gone" in line.text for section in sections(found) for line in section.lines)


def test_the_command_prints_the_chain_for_people_and_as_data(
    chains: Chains, capsys: pytest.CaptureFixture[str]
) -> None:
    order = chains.traded()
    call_command("explain", order.client_order_id)
    text = capsys.readouterr().out
    assert "Approved: BUY" in text
    assert "quote in force" in text
    call_command("explain", f"order:{order.pk}", "--json")
    data = json.loads(capsys.readouterr().out)
    assert data["fills"][0]["price"] == "0.5003"
    assert data["ending"] == "traded"


def test_the_command_refuses_an_unknown_name_in_one_line_with_exit_code_2(
    chains: Chains, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        call_command("explain", "order:1000000")
    output = capsys.readouterr()
    assert end.value.code == 2
    assert (output.out, output.err) == ("", "cdb: explain: there is no order '1000000'\n")


def test_a_signal_of_another_symbol_in_the_entry_is_not_taken_for_its_own(chains: Chains) -> None:
    entry = chains.world.publish(chains.client, trades((T, 1), symbol="ADAUSDT"), trades((T, 5_000)))
    signal = SignalFactory.create(
        session=chains.world.session, instrument=chains.world.instruments["XRPUSDT"], entry_id=entry, ts_event=T,
        trade_id=str(T), strategy_version=chains.world.version,
    )  # fmt: skip
    found = told(chains, f"signal:{signal.pk}")
    assert [trade.price for trade in found.stream.trades] == [D("0.5")]


def test_a_third_position_is_counted_and_not_read_as_money(chains: Chains) -> None:
    row = {"code": "POSITION_LIMIT", "value": "3", "limit": "2", "passed": False, "note": "positions would be 3 of 2"}
    order = {"code": "FAT_FINGER", "value": "425.5", "limit": "1000", "passed": True, "note": ""}
    found = {part.code: part.margin for part in check_parts([row, order], currency="USDT", reducing=False)}
    assert found["POSITION_LIMIT"] == "3 > 2; 1 less would have passed"
    assert found["FAT_FINGER"] == "425.5 ≤ 1\u202f000 USDT; 57\u202f% left"


def test_the_sum_of_a_limit_names_what_was_there_and_what_the_order_adds() -> None:
    rows = [
        {"code": "FAT_FINGER", "value": "425", "limit": "1000", "passed": True, "note": ""},
        {"code": "EXPOSURE", "value": "30365", "limit": "30000", "passed": False, "note": ""},
        {"code": "MIN_NOTIONAL", "value": "4.1", "limit": "5", "passed": False, "note": ""},
        {"code": "STALE_SIGNAL", "value": "2301", "limit": "2000", "passed": False, "note": ""},
    ]
    margins = [part.margin.replace("\u202f", " ") for part in check_parts(rows, currency="USDT", reducing=False)]
    assert margins[1:] == [
        "29 940 + 425 = 30 365 > 30 000 USDT; 365 less would have passed",
        "4.1 < 5 USDT; 0.9 more would have passed",
        "2.4 s > 2 s; 0.4 s less would have passed",
    ]


def test_an_open_breaker_and_the_state_it_made_are_told_with_their_evidence(chains: Chains) -> None:
    world = chains.world
    evidence = {"loss": "51", "limit": "50"}
    trip_account(account_id=world.account.pk, cause=TripCause.DAILY_LOSS, evidence=evidence, reason="a day's loss")
    decision = world.decide(world.entry_signal())
    assert decision is not None
    found = told(chains, f"decision:{decision.pk}")
    assert found.ending == "denied:REDUCING"
    assert found.decision is not None
    assert [(row.cause, row.to_state, row.evidence) for row in found.decision.trips] == [
        ("DAILY_LOSS", "REDUCING", evidence)
    ]
    lines = next(section for section in sections(found) if section.name == "decision").lines
    assert any(line.label == "breaker DAILY_LOSS" and "loss 51, limit 50" in line.text for line in lines)
    assert any(line.label == "trading state" and line.text.startswith("REDUCING since") for line in lines)


def test_what_a_venue_reported_and_cannot_be_is_told_with_the_order(chains: Chains) -> None:
    intent = chains.world.approved(chains.world.entry_signal())
    venue = ScriptedVenue(status=VenueStatus.PARTIALLY_FILLED)
    venue.fill("t1", "SELL", "1")
    submit_order(intent_id=intent.pk, now_ms=int(intent.created_at.timestamp() * 1000), feed=fresh, venue=venue)
    found = told(chains, intent.client_order_id)
    assert found.order is not None
    assert found.order.anomalies == ("wrong side: a fill of a SELL for an order to BUY",)


@pytest.mark.parametrize(
    ("confirmed", "words"),
    [
        ("0.5", "0.5000, the trigger's own"),
        ("0.45", "0.4500, which the exit was judged by: nothing confirms the last trade's 0.5000"),
    ],
)
def test_an_exit_tells_the_confirmed_price_it_was_judged_by_and_the_raw_one(
    chains: Chains, confirmed: str, words: str
) -> None:
    trade = chains.closed()
    signal = trade.order.intent.decision.signal
    Signal.objects.filter(pk=signal.pk).update(confirmed_price=D(confirmed), price=D("0.5"))
    lines = {line.label: line for section in sections(told(chains, f"signal:{signal.pk}")) for line in section.lines}
    assert (lines["confirmed price"].text, lines["confirmed price"].raw) == (words, confirmed)
