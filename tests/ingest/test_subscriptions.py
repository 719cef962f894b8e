"""Accepted, refused and missing are three different things, each with its own pace."""

from __future__ import annotations

import json
import random

from workers.ingest.backoff import Backoff
from workers.ingest.channels import channels_of, deals_channel
from workers.ingest.control import Message
from workers.ingest.subscriptions import Subscriptions

CHANNELS = channels_of(["BTCUSDT", "ETHUSDT"])
BTC, ETH = deals_channel("BTCUSDT"), deals_channel("ETHUSDT")
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
    assert not subscriptions.complete


def test_an_answer_counts_whatever_its_id() -> None:
    for number in (0, 1, 99):
        subscriptions = make()
        subscriptions.first_request(0.0)
        assert subscriptions.answer(Message(",".join(CHANNELS), id=number), 0.1) == CHANNELS
        assert subscriptions.complete


def test_a_text_about_nothing_we_asked_says_nothing() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    assert subscriptions.answer(Message("msg format invalid"), 0.1) is None
    assert subscriptions.missing == set(CHANNELS)


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
    assert 54 <= pauses[0] <= 67
    assert all(540 <= pause <= 661 for pause in pauses[4:])
    assert not subscriptions.overdue(now)


def test_a_refusal_that_turns_into_acceptance_ends_the_retries() -> None:
    subscriptions = make()
    subscriptions.first_request(0.0)
    subscriptions.answer(Message(",".join(channel for channel in CHANNELS if channel != ETH)), 0.1)
    subscriptions.answer(refusal(ETH), 0.2)
    assert asked(subscriptions.due_request(100.0)) == [ETH]
    assert subscriptions.answer(Message(ETH, id=2), 100.1) == [ETH]
    assert not subscriptions.refused
    assert subscriptions.due_request(10_000.0) is None


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
