"""Accepted, refused and missing are three different things, each with its own pace."""

from __future__ import annotations

import json
import random

from workers.ingest.backoff import Backoff
from workers.ingest.channels import channels_of, deals_channel
from workers.ingest.control import Message
from workers.ingest.subscriptions import UNANSWERED, News, Subscriptions

CHANNELS = channels_of(["BTCUSDT", "ETHUSDT"])
BTC, ETH, SOL = map(deals_channel, ("BTCUSDT", "ETHUSDT", "SOLUSDT"))
REASON = "Reason\uff1a Blocked! "


def asked(text: str | None) -> list[str]:
    return [] if text is None else list(json.loads(text)["params"])


def make() -> Subscriptions:
    return Subscriptions(CHANNELS, random.Random(1))


def refusal(*channels: str) -> Message:
    return Message(f"Not Subscribed successfully! [{','.join(channels)}].  {REASON}")


def test_everything_is_asked_for_at_once_with_an_id() -> None:
    request = json.loads(make().first_request(0.0))
    assert (request["method"], request["params"], request["id"]) == ("SUBSCRIPTION", CHANNELS, 1)


def test_the_missing_are_asked_for_once_more_after_five_seconds_and_are_overdue_after_ten() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(BTC, id=1), 0.1)
    assert subscriptions.due_request(4.9) is None
    assert asked(subscriptions.due_request(5.0)) == [channel for channel in CHANNELS if channel != BTC]
    assert subscriptions.due_request(6.0) is None
    assert not subscriptions.overdue(9.9)
    assert subscriptions.overdue(10.0)
    assert not subscriptions.settled


def test_an_answer_counts_whatever_its_id() -> None:
    for number in (0, 1, 99):
        subscriptions = make()
        subscriptions.first_request(0.0)
        assert subscriptions.answer(Message(",".join(CHANNELS), id=number), 0.1) == News(CHANNELS)
        assert subscriptions.settled


def test_a_text_about_nothing_we_asked_says_nothing() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    assert subscriptions.answer(Message("msg format invalid"), 0.1) is None
    assert set(subscriptions.missing) == set(CHANNELS)


def test_all_refused_is_blocked() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(refusal(*CHANNELS), 0.1)
    assert subscriptions.blocked
    assert set(subscriptions.refused.values()) == {"Blocked!"}


def test_the_refused_alone_are_asked_for_again_slowly_and_ever_more_slowly() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(",".join(channel for channel in CHANNELS if channel != ETH)), 0.1)
    subscriptions.answer(refusal(ETH), 0.2)
    times: list[float] = []
    now = 0.2
    while len(times) < 8:
        now += 1
        request = subscriptions.due_request(now)
        if request is not None:
            assert asked(request) == [ETH]
            times.append(now)
            subscriptions.answer(refusal(ETH), now + 0.1)
    pauses = [later - earlier for earlier, later in zip([0.2, *times], times, strict=False)]
    assert 60 <= pauses[0] <= 67
    assert all(600 <= pause <= 661 for pause in pauses[4:])
    assert not subscriptions.overdue(now)


def test_a_refusal_that_turns_into_acceptance_ends_the_retries() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(",".join(channel for channel in CHANNELS if channel != ETH)), 0.1)
    subscriptions.answer(refusal(ETH), 0.2)
    assert asked(subscriptions.due_request(100.0)) == [ETH]
    assert subscriptions.answer(Message(ETH, id=2), 100.1) == News([ETH])
    assert not subscriptions.refused
    assert subscriptions.due_request(10_000.0) is None


def settled() -> Subscriptions:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(",".join(CHANNELS), id=1), 0.1)
    return subscriptions


def texts(requests: list[str]) -> list[tuple[str, list[str]]]:
    return [(json.loads(text)["method"], json.loads(text)["params"]) for text in requests]


def test_symbols_leave_and_join_an_open_link_by_two_texts() -> None:
    subscriptions = settled()
    requests = subscriptions.change(leave=[BTC], join=[SOL], now=10.0)
    assert texts(requests) == [("UNSUBSCRIPTION", [BTC]), ("SUBSCRIPTION", [SOL])]
    assert BTC not in subscriptions.accepted
    assert subscriptions.answer(Message(BTC, id=2), 10.1) == News()  # the echo of leaving accepts nothing
    assert subscriptions.answer(Message(SOL, id=3), 10.2) == News([SOL])
    assert subscriptions.accepted == {*CHANNELS, SOL} - {BTC}


def test_the_echo_of_leaving_without_an_id_accepts_nothing() -> None:
    subscriptions = settled()
    subscriptions.change(leave=[BTC], join=[], now=10.0)
    assert subscriptions.answer(Message(BTC), 10.1) == News()
    assert BTC not in subscriptions.accepted


def test_a_channel_that_joined_and_is_never_answered_counts_as_refused_and_ends_nothing() -> None:
    subscriptions = settled()
    subscriptions.change(leave=[], join=[SOL], now=10.0)
    assert asked(subscriptions.due_request(15.0)) == [SOL]
    assert subscriptions.give_up(19.9) is None
    assert subscriptions.give_up(20.0) == News(refused={SOL: UNANSWERED})
    assert not subscriptions.overdue(1_000.0)
    assert asked(subscriptions.due_request(90.0)) == [SOL]
    assert subscriptions.answer(Message(SOL), 90.1) == News([SOL])
    assert not subscriptions.refused


def test_a_channel_without_answer_on_two_links_does_not_take_the_others_with_it() -> None:
    subscriptions = Subscriptions(CHANNELS, random.Random(1), unanswered={ETH})
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(",".join(channel for channel in CHANNELS if channel != ETH)), 0.1)
    assert subscriptions.give_up(10.0) == News(refused={ETH: UNANSWERED})
    assert subscriptions.settled
    assert not subscriptions.overdue(10.0)


def test_two_channels_without_answer_of_which_one_had_one_before_are_a_reason_to_leave() -> None:
    subscriptions = Subscriptions(CHANNELS, random.Random(1), unanswered={ETH})
    subscriptions.first_request(0.0)
    assert subscriptions.give_up(10.0) is None
    assert subscriptions.overdue(10.0)


def test_asking_again_for_what_was_accepted_may_end_in_a_refusal() -> None:
    subscriptions = settled()
    assert asked(subscriptions.again([BTC, SOL])) == [BTC]
    assert subscriptions.again([SOL]) is None
    assert subscriptions.answer(Message(BTC), 60.1) == News()
    subscriptions.again([BTC])
    assert subscriptions.answer(refusal(BTC), 120.1) == News(refused={BTC: "Blocked!"})
    assert BTC not in subscriptions.accepted


def test_waiting_doubles_up_to_half_a_minute_with_full_jitter_and_begins_anew_after_a_stable_minute() -> None:
    backoff = Backoff(random.Random(3))
    waits = [[Backoff(random.Random(seed)) for seed in range(300)][seed] for seed in range(300)]
    rounds = [[each.next_seconds(0) for each in waits] for _ in range(9)]
    ceilings = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    for ceiling, drawn in zip(ceilings, rounds, strict=True):
        assert 0.9 * ceiling < max(drawn) <= ceiling
        assert min(drawn) < 0.2 * ceiling
    for _ in range(10):
        backoff.next_seconds(59)
    assert backoff.next_seconds(60) <= 0.5
