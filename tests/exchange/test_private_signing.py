"""Signatures, times and keys: what is let in, and the code for each way of being kept out."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange.helpers import PrivateExchange, private_exchange
from workers.exchange.errors import ApiError
from workers.exchange.private import signing
from workers.exchange.private.accounts import AccountFileError, read_account

# The exchange's documentation prints this pair; it opens nothing.
SECRET = "45d0b3c26f2644f19bfb98b07741b2f5"
WHOLE = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=11&recvWindow=5000&timestamp=1644489390087"
HALVES = ("symbol=BTCUSDT&side=BUY&type=LIMIT", "quantity=1&price=11&recvWindow=5000&timestamp=1644489390087")
BY_ID = "symbol=BTCUSDT&orderId=C02__505979017439002624115&recvWindow=5000&timestamp=1644489390087"
VECTORS = [
    (WHOLE, "", "fd3e4e8543c5188531eb7279d68ae7d26a573d0fc5ab0d18eb692451654d837a"),
    ("", WHOLE, "fd3e4e8543c5188531eb7279d68ae7d26a573d0fc5ab0d18eb692451654d837a"),
    (*HALVES, "d1a676610ceb39174c8039b3f548357994b2a34139a8addd33baadba65684592"),
    ("recvWindow=5000&timestamp=1644489390087", "", "1103ce19f47c037fc03b8b9d674e10ee76e53272851eb2a3b10321cd353fb9bf"),
    ("timestamp=1644489390087", "", "09b4b5a40aeec864d2caa60f2e6a740b61dc423d76c5615c00fd72681f52a094"),
    (BY_ID, "", "ae596eebf47cd9aae4f23ef2e96c12007e882bfff0b243c5edb9a5278f01dc46"),
]
NOW_MS = 1_644_489_390_087


@pytest.mark.parametrize(("query", "body", "signature"), VECTORS)
@pytest.mark.parametrize("in_body", [False, True])
def test_a_known_signature_is_accepted_wherever_it_stands(query: str, body: str, signature: str, in_body: bool) -> None:
    given_query, given_body = (query, f"{body}&signature={signature}") if in_body else (query, body)
    if not in_body:
        given_query = f"{query}&signature={signature}" if query else f"signature={signature}"
    if in_body and not body:
        given_body = f"signature={signature}"
    request = signing.read_request(given_query, given_body)
    assert request.payload == query + body
    signing.check_signature(request, SECRET)
    assert signing.signature_of(query + body, SECRET) == signature


def test_the_sample_that_the_documentation_misprints_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        signing.check_signature(signing.SignedRequest(WHOLE, "323c96ab" + "0" * 56, {}), SECRET)
    assert refused.value.code == 700002


def test_of_a_value_in_query_and_body_the_querys_counts() -> None:
    request = signing.read_request("a=1&b=2", "b=3&c=4")
    assert (request.values, request.payload) == ({"a": "1", "b": "2", "c": "4"}, "a=1&b=2b=3&c=4")


@given(
    values=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=5), st.text(max_size=10), min_size=1),
    split=st.integers(0, 10),
)
def test_any_values_signed_as_they_are_sent_are_read_back(values: dict[str, str], split: int) -> None:
    items = list(values.items())
    query, body = urlencode(items[:split]), urlencode(items[split:])
    signature = signing.signature_of(query + body, SECRET)
    request = signing.read_request("&".join(filter(None, [query, f"signature={signature}"])), body)
    signing.check_signature(request, SECRET)
    assert request.values == values


def test_escapes_are_signed_in_capitals() -> None:
    small, capitals = "symbol=A%2cB", "symbol=A%2CB"
    signing.check_signature(signing.SignedRequest(capitals, signing.signature_of(capitals, SECRET), {}), SECRET)
    with pytest.raises(ApiError):
        signing.check_signature(signing.SignedRequest(small, signing.signature_of(small, SECRET), {}), SECRET)


@pytest.mark.parametrize(
    ("offset_ms", "window", "clock", "code"),
    [
        (0, None, {}, None),
        (999, None, {}, None),
        (1_000, None, {}, 700003),
        (-5_000, None, {}, None),
        (-5_001, None, {}, 700003),
        (-5_001, "60000", {}, None),
        (-60_000, "60000", {}, None),
        (-60_001, "60000", {}, 700003),
        (0, "60001", {}, 700005),
        (0, "soon", {}, 33333),
        (0, "-1", {}, 33333),
        (-1, "0", {}, 700003),
        (3_600_000, None, {"running": False}, None),
        (-5_001, None, {"running": False}, 700003),
        (-50_000, None, {"speed": 10.0}, None),
        (9_999, None, {"speed": 10.0}, None),
        (10_000, None, {"speed": 10.0}, 700003),
    ],
)
def test_a_time_must_lie_in_its_window(
    offset_ms: int, window: str | None, clock: dict[str, Any], code: int | None
) -> None:
    values = {"timestamp": str(NOW_MS + offset_ms)} | ({} if window is None else {"recvWindow": window})
    if code is None:
        signing.check_time(values, signing.Clock(NOW_MS, **clock))
        return
    with pytest.raises(ApiError) as refused:
        signing.check_time(values, signing.Clock(NOW_MS, **clock))
    assert refused.value.code == code


@pytest.mark.parametrize("timestamp", [None, "", "now", "1644489390087.5", "-1", "\u0661", "9" * 16])
def test_what_is_no_time_is_refused(timestamp: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        signing.check_time({} if timestamp is None else {"timestamp": timestamp}, signing.Clock(NOW_MS))
    assert refused.value.code == 10073


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateExchange]:
    with private_exchange(tmp_path_factory.mktemp("signing")) as served:
        yield served


@pytest.mark.parametrize(
    ("headers", "tail", "code"),
    [
        ({}, "", 400),
        ({"X_MEXC_APIKEY": "mx0"}, "", 700001),
        ({"X_MEXC_APIKEY": "nonsense and more"}, "", 700001),
        ({"X_MEXC_APIKEY": "mx0aBYs33eIilxBWC5"}, "", 10072),
        ({"Content_Type": "text/plain"}, "", 700013),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "", 700013),
        ({}, "&signature=", 602),
        ({}, "&signature=" + "0" * 64, 700002),
    ],
)
def test_whoever_is_not_let_in_is_told_why(
    exchange: PrivateExchange, headers: dict[str, str], tail: str, code: int
) -> None:
    key = exchange.key_file.read_text().strip()
    own = {"X_MEXC_APIKEY": key} if headers or tail else {}
    query = f"timestamp={exchange.server.hub.clock.now_ms()}{tail}"
    status, document = exchange.request("POST", f"/api/v3/userDataStream?{query}", None, **own | headers)
    assert (status, document["code"]) == (400, code)
    assert document["msg"]


def test_a_parameter_that_is_not_plain_ascii_is_refused(exchange: PrivateExchange) -> None:
    headers = {"X_MEXC_APIKEY": exchange.key_file.read_text().strip(), "Content_Type": "application/json"}
    for body in ("a=\u00e4", "a=\u0000", "a=1\nb=2"):
        assert exchange.request("POST", "/api/v3/order", body.encode(), **headers)[1]["code"] == 700008


def test_a_signature_over_other_bytes_than_were_sent_is_refused(exchange: PrivateExchange) -> None:
    key, secret = (path.read_text().strip() for path in (exchange.key_file, exchange.secret_file))
    query = f"recvWindow=5000&timestamp={exchange.server.hub.clock.now_ms()}"
    good = signing.signature_of(query, secret)
    for sent, signature in ((query, good[:-1] + "x"), (query + "&a=1", good), (query, good.upper())):
        answer = exchange.request("GET", f"/api/v3/account?{sent}&signature={signature}", X_MEXC_APIKEY=key)
        assert answer[1]["code"] == 700002
    assert exchange.request("GET", f"/api/v3/account?{query}&signature={good}", X_MEXC_APIKEY=key)[0] == 200


def test_parameters_may_come_in_the_body(exchange: PrivateExchange) -> None:
    key, secret = (path.read_text().strip() for path in (exchange.key_file, exchange.secret_file))
    body = f"symbol=BTCUSDT&recvWindow=5000&timestamp={exchange.server.hub.clock.now_ms()}&side=BUY&type=LIMIT"
    query = "quantity=1&price=90000"
    signature = signing.signature_of(query + body, secret)
    path = f"/api/v3/order/test?{query}&signature={signature}"
    headers = {"X_MEXC_APIKEY": key, "Content_Type": "application/json"}
    assert exchange.request("POST", path, body.encode(), **headers) == (200, {})


def test_keys_are_made_for_their_owner_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text("{}")
    account = read_account(path)
    assert account.api_key.startswith("mx0test")
    for made in (tmp_path / "own.key", tmp_path / "own.secret"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert read_account(path) == account
    assert account.secret not in repr(account)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "cannot be read"),
        ("[]", "must be an object"),
        ('{"key": 1}', "unknown: key"),
        ('{"balances": {"USDT": 5}}', "must be a decimal number written as text"),
        ('{"balances": {"USDT": "-5"}}', "must be a decimal number written as text"),
        ('{"balances": []}', "balances must be an object"),
        ('{"taker_fee": "1"}', "must be a fraction below 1"),
        ('{"fee_asset": "GAS"}', "fee_asset must be one of"),
        ('{"api_key_file": "../none/a.key"}', "cannot be made"),
        ('{"api_key_file": "real.key"}', "only keys that were made here"),
        ('{"secret_file": "open.secret"}', "others may read it"),
    ],
)
def test_an_account_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "real.key").write_text("mx0aBYs33eIilxBWC5\n")
    (tmp_path / "real.key").chmod(0o600)
    (tmp_path / "open.secret").write_text("secret\n")
    (tmp_path / "open.secret").chmod(0o644)
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(AccountFileError, match=reason) as refused:
        read_account(path)
    assert "\n" not in str(refused.value)
