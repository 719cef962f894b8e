"""The session state machine: exact answers, the cap, and every deadline, without a socket."""

from __future__ import annotations

import json

import pytest

from tests.exchange.helpers import book_ticker, deals
from workers.exchange.limits import Limits
from workers.exchange.session import Close, Dropped, Opened, Reply, Session

SYMBOLS = {f"S{number:03d}USDT" for number in range(100)} | {"BTCUSDT", "ETHUSDT"}
BTC, ETH = deals("BTCUSDT"), deals("ETHUSDT")
OLD = "spot@public.deals.v3.api@BTCUSDT"
UNKNOWN = deals("NOPEUSDT")
NOT_OLD = f"Not Subscribed successfully! [{OLD}]. Reason\uff1a Blocked! "


def _session(limits: Limits | None = None) -> Session:
    return Session(limits or Limits(), SYMBOLS, now=0.0)


def _request(method: str, *channels: str, **extra: object) -> str:
    return json.dumps({"method": method, "params": list(channels), **extra})


def _answer(session: Session, text: str, now: float = 0.0) -> str:
    replies = [action.text for action in session.on_text(text, now) if isinstance(action, Reply)]
    assert len(replies) == 1
    return replies[0]


ANSWERS = [
    (_request("SUBSCRIPTION", BTC), '{"id":0,"code":0,"msg":"spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"}'),
    (_request("SUBSCRIPTION", BTC, id=7), f'{{"id":7,"code":0,"msg":"{BTC}"}}'),
    (_request("SUBSCRIPTION", BTC, ETH), f'{{"id":0,"code":0,"msg":"{BTC},{ETH}"}}'),
    (
        _request("SUBSCRIPTION", OLD, UNKNOWN),
        f'{{"id":0,"code":0,"msg":"Not Subscribed successfully! [{OLD},{UNKNOWN}].  Reason： Blocked! "}}',
    ),
    (
        _request("SUBSCRIPTION", BTC, OLD, ETH),
        f'{{"id":0,"code":0,"msg":"Subscribed successful! [{BTC},{ETH}]. {NOT_OLD}"}}',
    ),
    (_request("UNSUBSCRIPTION", BTC, ETH, id=3), f'{{"id":3,"code":0,"msg":"{BTC},{ETH}"}}'),
    ('{"method":"PING"}', '{"id":0,"code":0,"msg":"PONG"}'),
    ('{"method":"ping"}', '{"id":0,"code":0,"msg":"PONG"}'),
    ('{"method":"PING","id":9}', '{"id":0,"code":0,"msg":"PONG"}'),
]
MALFORMED = [
    "",
    "x",
    "{",
    "[]",
    "5",
    "{}",
    '{"method":5}',
    '{"method":"SUBSCRIPTION"}',
    '{"method":"SUBSCRIPTION","params":[]}',
    '{"method":"SUBSCRIPTION","params":"a"}',
    '{"method":"SUBSCRIPTION","params":[5]}',
    '{"method":"subscription","params":["a"]}',
    '{"method":"OTHER","params":["a"]}',
    "[" * 100_000,
]


@pytest.mark.parametrize(("request_text", "answer"), ANSWERS)
def test_a_request_gets_the_exact_answer(request_text: str, answer: str) -> None:
    assert _answer(_session(), request_text) == answer


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_message_is_answered_as_such(text: str) -> None:
    assert _answer(_session(), text) == '{"id":0,"code":0,"msg":"msg format invalid"}'


@pytest.mark.parametrize("bad_id", ['"7"', "-1", "true", "1.5", "null"])
def test_an_id_that_is_no_unsigned_integer_is_answered_with_zero(bad_id: str) -> None:
    text = f'{{"method":"SUBSCRIPTION","params":["{BTC}"],"id":{bad_id}}}'
    assert json.loads(_answer(_session(), text))["id"] == 0


@pytest.mark.parametrize(
    "channel",
    [
        OLD,
        UNKNOWN,
        "spot@public.aggre.deals.v3.api.pb@BTCUSDT",
        "spot@public.aggre.deals.v3.api.pb@50ms@BTCUSDT",
        "spot@public.aggre.deals.v3.api.pb@100ms@btcusdt",
        "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT ",
        "spot@public.increase.depth.v3.api.pb@BTCUSDT",
        "spot@private.deals.v3.api.pb",
        "",
    ],
)
def test_what_is_not_offered_is_refused_and_opens_nothing(channel: str) -> None:
    session = _session()
    actions = session.on_text(_request("SUBSCRIPTION", channel), 0.0)
    assert [type(action) for action in actions] == [Reply]
    assert not session.channels


@pytest.mark.parametrize("channel", [deals("BTCUSDT", "10ms"), book_ticker("BTCUSDT"), book_ticker("BTCUSDT", "10ms")])
def test_both_tick_rates_and_both_kinds_are_offered(channel: str) -> None:
    actions = _session().on_text(_request("SUBSCRIPTION", channel), 0.0)
    assert [type(action) for action in actions] == [Reply, Opened]


def test_beyond_the_cap_channels_are_acknowledged_but_not_opened() -> None:
    session = _session()
    channels = [deals(symbol) for symbol in sorted(SYMBOLS)[:32]]
    actions = session.on_text(_request("SUBSCRIPTION", *channels), 0.0)
    opened = [action.channel.text for action in actions if isinstance(action, Opened)]
    assert opened == channels[:30]
    assert actions[0] == Reply(json.dumps({"id": 0, "code": 0, "msg": ",".join(channels)}, separators=(",", ":")))


def test_an_unsubscription_makes_room_for_a_later_subscription() -> None:
    session = _session(Limits(subscriptions_max=1))
    session.on_text(_request("SUBSCRIPTION", BTC, ETH), 0.0)
    assert list(session.channels) == [BTC]
    assert isinstance(session.on_text(_request("UNSUBSCRIPTION", BTC), 0.0)[1], Dropped)
    session.on_text(_request("SUBSCRIPTION", ETH), 0.0)
    assert list(session.channels) == [ETH]


def test_a_repeated_subscription_is_acknowledged_and_opens_nothing_twice() -> None:
    session = _session()
    actions = session.on_text(_request("SUBSCRIPTION", BTC, BTC), 0.0) + session.on_text(
        _request("SUBSCRIPTION", BTC), 0.0
    )
    assert sum(isinstance(action, Opened) for action in actions) == 1
    assert sum(isinstance(action, Reply) for action in actions) == 2


def test_the_hundred_and_first_message_within_a_second_closes() -> None:
    session = _session()
    for number in range(100):
        assert isinstance(session.on_text('{"method":"PING"}', number / 1_000)[0], Reply)
    assert session.on_text('{"method":"PING"}', 0.9) == [Close(1008, "too many control messages")]


def test_exactly_the_allowed_rate_goes_on_for_ever() -> None:
    session = _session(Limits(control_messages_per_second_max=64))
    for number in range(1_000):
        assert isinstance(session.on_text('{"method":"PING"}', number / 64)[0], Reply)


def test_without_a_valid_subscription_the_connection_ends_after_thirty_seconds() -> None:
    session = _session()
    session.on_text(_request("SUBSCRIPTION", OLD), 20.0)
    assert session.on_time(29.9) is None
    assert session.on_time(30.0) == Close(1000, "no valid subscription")


def test_giving_up_the_last_subscription_starts_the_thirty_seconds_again() -> None:
    session = _session()
    session.on_text(_request("SUBSCRIPTION", BTC), 1.0)
    session.on_text(_request("UNSUBSCRIPTION", BTC), 40.0)
    assert session.on_time(69.9) is None
    assert session.on_time(70.0) == Close(1000, "no valid subscription")


@pytest.mark.parametrize("traffic", ["ping", "data"])
def test_sixty_seconds_without_traffic_end_the_connection_and_traffic_of_either_side_prevents_it(traffic: str) -> None:
    session = _session()
    session.on_text(_request("SUBSCRIPTION", BTC), 0.0)
    assert session.on_time(59.9) is None
    assert session.on_time(60.0) == Close(1000, "no traffic")
    if traffic == "ping":
        session.on_text('{"method":"PING"}', 50.0)
    else:
        session.on_sent(50.0)
    assert session.on_time(109.9) is None
    assert session.on_time(110.0) == Close(1000, "no traffic")


def test_no_connection_lives_longer_than_a_day() -> None:
    session = _session()
    session.on_text(_request("SUBSCRIPTION", BTC), 0.0)
    session.on_sent(86_399.0)
    assert session.on_time(86_399.9) is None
    assert session.on_time(86_400.0) == Close(1000, "connection reached its maximum age")
