"""Where the venue is called, with whose key, signed how, and that its secret shows nowhere."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from apps.execution.venues.base import VenueUnclear
from apps.execution.venues.mexc import Access, Client, MexcVenue, VenueRefused, read_access
from apps.execution.venues.mexc.errors import MEANINGS, Meaning, Refused, read_answer
from apps.execution.venues.mexc.signing import query_of, signature_of
from tests.execution.exchange_venue import OpenBudget, wall_ms

SECRET = "45d0b3c26f2644f19bfb98b07741b2f5"  # the documentation's, as the signatures below
LOCAL = "http://127.0.0.1:8080"
KEY = "mx0testaaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=11&recvWindow=5000&timestamp=1644489390087",
            "fd3e4e8543c5188531eb7279d68ae7d26a573d0fc5ab0d18eb692451654d837a",
        ),
        (
            "symbol=BTCUSDT&side=BUY&type=LIMITquantity=1&price=11&recvWindow=5000&timestamp=1644489390087",
            "d1a676610ceb39174c8039b3f548357994b2a34139a8addd33baadba65684592",
        ),
        (
            "recvWindow=5000&timestamp=1644489390087",
            "1103ce19f47c037fc03b8b9d674e10ee76e53272851eb2a3b10321cd353fb9bf",
        ),
        ("timestamp=1644489390087", "09b4b5a40aeec864d2caa60f2e6a740b61dc423d76c5615c00fd72681f52a094"),
        (
            "symbol=BTCUSDT&orderId=C02__505979017439002624115&recvWindow=5000&timestamp=1644489390087",
            "ae596eebf47cd9aae4f23ef2e96c12007e882bfff0b243c5edb9a5278f01dc46",
        ),
    ],
)
def test_a_signature_is_the_known_one(payload: str, signature: str) -> None:
    assert signature_of(payload, SECRET) == signature
    assert Access(LOCAL, KEY, SECRET).sign(payload) == signature


def test_a_query_is_in_the_order_it_was_given_with_escapes_in_capitals() -> None:
    assert query_of({"z": "a b,c/d", "a": 1}) == "z=a%20b%2Cc%2Fd&a=1"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.mexc.com",
        "http://api.mexc.com",
        "http://127.0.0.1.example.org:8080",
        "http://user@127.0.0.1:8080",
        "http://10.0.0.1:8080",
        "http://127.0.0.1:8080/elsewhere",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "",
    ],
)
def test_no_other_machine_is_called(url: str) -> None:
    with pytest.raises(VenueRefused, match="is not this machine: the venue calls the local exchange only"):
        Access(url, KEY, SECRET)


@pytest.mark.parametrize("url", [LOCAL, "http://localhost:8080/", "http://[::1]:8080"])
def test_this_machine_is(url: str) -> None:
    assert Access(url, KEY, SECRET).url == url.rstrip("/")


def test_a_key_of_the_real_exchange_is_not_used() -> None:
    with pytest.raises(VenueRefused, match="only keys of the local exchange are used; they begin with mx0test") as no:
        Access(LOCAL, "mx0aBYs33eIilxBWC5", SECRET)
    assert "mx0aBYs33eIilxBWC5" not in str(no.value)


def test_key_and_secret_come_from_files_that_nobody_else_may_read(tmp_path: Path) -> None:
    key, secret = tmp_path / "a.key", tmp_path / "a.secret"
    key.write_text(KEY + "\n")
    secret.write_text(SECRET + "\n")
    key.chmod(0o600)
    secret.chmod(0o640)
    with pytest.raises(VenueRefused, match=r"a\.secret: others may read it; its mode must be 0600"):
        read_access(LOCAL, key, secret)
    secret.chmod(0o600)
    assert read_access(LOCAL, key, secret).key == KEY
    with pytest.raises(VenueRefused, match=r"b\.key: cannot be read"):
        read_access(LOCAL, tmp_path / "b.key", secret)
    secret.write_text("")
    with pytest.raises(VenueRefused, match="the secret is empty"):
        read_access(LOCAL, key, secret)


def test_the_secret_shows_in_no_repr_and_in_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Locals included, as error reporters print them; nothing listens on port 1."""
    access = Access("http://127.0.0.1:1", KEY, SECRET)
    client = Client(access, OpenBudget(), wall_ms)
    client._offset_ms = 0
    venue = MexcVenue(client, symbols=lambda: ("BTCUSDT",), symbol_of=lambda _: None)
    with pytest.raises(VenueUnclear) as unclear:
        venue.query("own-1")
    told = "".join(traceback.TracebackException.from_exception(unclear.value, capture_locals=True).format())
    assert "own-1" in told
    for text in (told, repr(access), str(access), repr(client), repr(venue), caplog.text, str(unclear.value)):
        assert SECRET not in text
    assert "signature" not in str(unclear.value)
    assert not hasattr(access, "secret")
    assert not hasattr(access, "__dict__")


@pytest.mark.parametrize(("code", "meaning"), MEANINGS.items())
def test_only_a_refusal_that_says_so_itself_is_certain(code: str, meaning: Meaning) -> None:
    for document in (f'{{"code":{code},"msg":"no"}}', f'{{"code":"{code}","msg":"no"}}'):
        with pytest.raises(Refused, match=f"{code} no") as refused:
            read_answer(400, document.encode())
        assert refused.value.meaning is meaning
        for status in (200, 302, 500, 503):
            with pytest.raises(VenueUnclear):
                read_answer(status, document.encode())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"code":98765,"msg":"new"}'),
        (400, b'{"msg":"no code"}'),
        (400, b"[]"),
        (403, b"<html>blocked</html>"),
        (200, b""),
        (200, b"\xff"),
        (301, b"{}"),
        (599, b"{}"),
    ],
)
def test_everything_else_is_unclear(status: int, body: bytes) -> None:
    with pytest.raises(VenueUnclear):
        read_answer(status, body)
