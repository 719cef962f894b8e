"""Recorded trades: what is read, and with which words, file and line everything else is refused."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.recording import (
    BUY,
    HEADER,
    SELL,
    InstrumentSpec,
    RecordedTrade,
    Recording,
    RecordingError,
    merge_recordings,
    parse_instruments,
    parse_recording,
)
from apps.engine.recording_fields import DIGITS_MAX

FILE = "trades.csv"
GOOD = [
    "ETHUSDT,1000,a1,sell,3400.3,0.028",
    "BTCUSDT,1000,a1,buy,95000.25,1",
    "ETHUSDT,1200,a2,buy,3401,0.5",
]
SPECS = {
    "ETHUSDT": InstrumentSpec("ETHUSDT", "ETH", "USDT", 2, 5),
    "BTCUSDT": InstrumentSpec("BTCUSDT", "BTC", "USDT", 2, 6),
}


def _parse(rows: list[str], specs: dict[str, InstrumentSpec] | None = None, file: str = FILE) -> Recording:
    return parse_recording([HEADER, *rows], file, specs)


def test_rows_become_ticks_and_steps_of_the_given_instruments() -> None:
    recording = _parse(GOOD, SPECS)
    assert recording.symbols == ("BTCUSDT", "ETHUSDT")
    assert list(recording.rows()) == [
        RecordedTrade("ETHUSDT", 1000, "a1", SELL, 340_030, 2_800),
        RecordedTrade("BTCUSDT", 1000, "a1", BUY, 9_500_025, 1_000_000),
        RecordedTrade("ETHUSDT", 1200, "a2", BUY, 340_100, 50_000),
    ]
    assert recording.quote_asset == "USDT"
    assert len(recording) == 3


def test_without_instruments_decimals_and_assets_come_from_the_data() -> None:
    recording = _parse(GOOD)
    eth = recording.instruments["ETHUSDT"]
    assert (eth.base_asset, eth.quote_asset, eth.price_decimals, eth.quantity_decimals) == ("ETH", "USDT", 1, 3)
    assert eth.derived
    assert list(recording.rows(2, 3)) == [RecordedTrade("ETHUSDT", 1200, "a2", BUY, 34_010, 500)]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_line_endings_do_not_matter(ending: str) -> None:
    lines = [f"{line}{ending}" for line in [HEADER, *GOOD]]
    assert list(parse_recording(lines, FILE).rows()) == list(_parse(GOOD).rows())


@pytest.mark.parametrize(
    ("symbol", "assets"),
    [
        ("XRPETH", ("XRP", "ETH")),
        ("ETHBTC", ("ETH", "BTC")),
        ("BTCUSDC", ("BTC", "USDC")),
        ("SOLUSDT", ("SOL", "USDT")),
        ("1000XUSD1", ("1000X", "USD1")),
        ("MXUSDT", ("MX", "USDT")),
    ],
)
def test_the_quote_asset_is_the_known_ending_of_the_symbol(symbol: str, assets: tuple[str, str]) -> None:
    spec = _parse([f"{symbol},1,a,buy,1,1"]).instruments[symbol]
    assert (spec.base_asset, spec.quote_asset) == assets


BAD_ROWS = [
    ("ETHUSDT,1300,a3,buy,1", "expected 6 columns, found 5"),
    ("ETHUSDT,1300,a3,buy,1,2,3", "expected 6 columns, found 7"),
    ("", "expected 6 columns, found 0"),
    ("ethusdt,1300,a3,buy,1,1", "symbol 'ethusdt' is not 4 to 20 capital letters and digits"),
    ("ABC,1300,a3,buy,1,1", "symbol 'ABC' is not 4 to 20 capital letters and digits"),
    (f"{'A' * 21},1300,a3,buy,1,1", f"symbol '{'A' * 21}' is not 4 to 20 capital letters and digits"),
    (f"{'A' * 60}USDT,1300,a3,buy,1,1", "is not 4 to 20 capital letters and digits"),
    ("ETH-USDT,1300,a3,buy,1,1", "symbol 'ETH-USDT' is not"),
    ("ÄTHUSDT,1300,a3,buy,1,1", "symbol 'ÄTHUSDT' is not"),
    ("ADAUSDT,1300,a3,buy,1,1", "symbol ADAUSDT is missing in the instruments file"),
    ("ETHUSDT,,a3,buy,1,1", "time_ms '' is not a positive whole number"),
    ("ETHUSDT,0,a3,buy,1,1", "time_ms '0' is not a positive whole number"),
    ("ETHUSDT,-5,a3,buy,1,1", "time_ms '-5' is not a positive whole number"),
    ("ETHUSDT,1300.5,a3,buy,1,1", "time_ms '1300.5' is not a positive whole number"),
    ("ETHUSDT,1e3,a3,buy,1,1", "time_ms '1e3' is not a positive whole number"),
    (f"ETHUSDT,{'9' * 30},a3,buy,1,1", f"time_ms '{'9' * 30}' is not a positive whole number"),
    ("ETHUSDT,1199,a3,buy,1,1", "time goes backwards to 1199"),
    ("ETHUSDT,1300,,buy,1,1", "trade id '' is not 1 to 64 visible characters"),
    ("ETHUSDT,1300,a 3,buy,1,1", "trade id 'a 3' is not 1 to 64 visible characters"),
    (f"ETHUSDT,1300,{'x' * 65},buy,1,1", "is not 1 to 64 visible characters"),
    ("ETHUSDT,1300,a1,buy,1,1", "trade id a1 of ETHUSDT occurs a second time"),
    ("ETHUSDT,1300,a3,BUY,1,1", "aggressor_side 'BUY' is neither buy nor sell"),
    ("ETHUSDT,1300,a3,,1,1", "aggressor_side '' is neither buy nor sell"),
    ("ETHUSDT,1300,a3,selling,1,1", "aggressor_side 'selling' is neither buy nor sell"),
    ("ETHUSDT,1300,a3,buy,abc,1", "price 'abc' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,,1", "price '' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,1.2.3,1", "price '1.2.3' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,5.,1", "price '5.' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,.5,1", "price '.5' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,1e2,1", "price '1e2' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,+1,1", "price '+1' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy, 1,1", "price ' 1' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,nan,1", "price 'nan' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,٣,1", "price '٣' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,0.00,1", "price 0.00 is zero"),
    ("ETHUSDT,1300,a3,buy,-1,1", "price '-1' is negative"),
    (f"ETHUSDT,1300,a3,buy,{'1' * 19},1", f"price '{'1' * 19}' has more than 18 digits"),
    (f"ETHUSDT,1300,a3,buy,{'1' * 18},1", "price has more than 18 digits at the instrument's decimals"),
    ("ETHUSDT,1300,a3,buy,1.005,1", "price 1.005 has more than the instrument's 2 decimals"),
    ("ETHUSDT,1300,a3,buy,1,x", "quantity 'x' is not a decimal number"),
    ("ETHUSDT,1300,a3,buy,1,0", "quantity 0 is zero"),
    ("ETHUSDT,1300,a3,buy,1,-0.5", "quantity '-0.5' is negative"),
    ("ETHUSDT,1300,a3,buy,1,0.000001", "quantity 0.000001 has more than the instrument's 5 decimals"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_line_and_reason(row: str, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        _parse([*GOOD, row, "not reached"], SPECS)
    assert (caught.value.file, caught.value.line_number) == (FILE, 5)
    assert reason in caught.value.reason
    assert str(caught.value) == f"{FILE}:5: {caught.value.reason}"


@pytest.mark.parametrize(
    ("lines", "line_number", "reason"),
    [
        ([], 1, "the file is empty"),
        ([HEADER], 1, "the file holds no trades after its header"),
        (["symbol,time,id,side,price,qty", *GOOD], 1, "the header must be"),
        (GOOD, 1, "the header must be"),
        (
            [HEADER, "ETHUSDT,1,a,buy,1,1", "XRPETH,2,b,buy,1,1"],
            3,
            "XRPETH is quoted in ETH, but the rows before in USDT",
        ),
        ([HEADER, "ABCDEF,1,a,buy,1,1"], 2, "symbol ABCDEF ends in no known quote asset"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(lines: list[str], line_number: int, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        parse_recording(lines, FILE)
    assert caught.value.line_number == line_number
    assert reason in caught.value.reason


def test_the_first_fault_of_the_file_is_named_even_if_a_later_kind_is_found_earlier() -> None:
    rows = [*GOOD, "ETHUSDT,1300,a1,buy,1,1", "ETHUSDT,1400,a5,buy,0,1"]
    with pytest.raises(RecordingError, match=r"trades.csv:5: trade id a1 of ETHUSDT occurs a second time"):
        _parse(rows)


@pytest.mark.parametrize(
    ("row_number", "row", "message"),
    [
        (65_000, "ETHUSDT,66000,id65000,buy,1.5", "trades.csv:65002: expected 6 columns"),
        (65_000, "ETHUSDT,66000,id7,buy,1.5,2", "trades.csv:65002: trade id id7 of ETHUSDT"),
        (32_768, "ETHUSDT,33766,id32768,buy,1.5,2", "trades.csv:32770: time goes backwards to 33766"),
    ],
)
def test_faults_beyond_the_first_block_keep_their_line_numbers(row_number: int, row: str, message: str) -> None:
    rows = [f"ETHUSDT,{1_000 + number},id{number},buy,1.5,2" for number in range(70_000)]
    rows[row_number] = row
    with pytest.raises(RecordingError, match=message):
        _parse(rows)


numbers = st.one_of(
    st.decimals("0", "10000000", places=4).map(str),
    st.text("0123456789.-x", max_size=22),
)


def _plain_reading(text: str) -> Decimal | None:
    """What a price or quantity means, decided without numpy; None if it must be refused."""
    whole, point, fraction = text.partition(".")
    digits = f"{whole}{fraction}"
    well_formed = whole.isdigit() and (fraction.isdigit() if point else True) and len(digits) <= DIGITS_MAX
    return Decimal(text) if well_formed and Decimal(text) > 0 else None


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_numbers_are_read_or_refused_as_a_plain_reading_does(pairs: list[tuple[str, str]]) -> None:
    rows = [f"ETHUSDT,{number + 1},id{number},buy,{price},{quantity}" for number, (price, quantity) in enumerate(pairs)]
    readings = [(_plain_reading(price), _plain_reading(quantity)) for price, quantity in pairs]
    bad = [number for number, values in enumerate(readings) if None in values]
    try:
        recording = _parse(rows)
    except RecordingError as error:
        refused: RecordingError | None = error
    else:
        refused = None
    if refused is not None:
        assert "at the instrument's decimals" in refused.reason or refused.line_number == bad[0] + 2
        return
    assert not bad
    spec = recording.instruments["ETHUSDT"]
    read = [
        (
            Decimal(row.price_ticks).scaleb(-spec.price_decimals),
            Decimal(row.quantity_steps).scaleb(-spec.quantity_decimals),
        )
        for row in recording.rows()
    ]
    assert read == readings


def test_files_are_merged_in_time_order_and_to_common_decimals() -> None:
    first = _parse(["ETHUSDT,1000,a,buy,1.5,1", "ETHUSDT,3000,b,buy,1.5,1"], file="one.csv")
    second = _parse(["BTCUSDT,500,a,sell,9,1", "ETHUSDT,1000,c,sell,1.25,0.1"], file="two.csv")
    merged = merge_recordings([first, second])
    assert list(merged.rows()) == [
        RecordedTrade("BTCUSDT", 500, "a", SELL, 9, 1),
        RecordedTrade("ETHUSDT", 1000, "a", BUY, 150, 10),
        RecordedTrade("ETHUSDT", 1000, "c", SELL, 125, 1),
        RecordedTrade("ETHUSDT", 3000, "b", BUY, 150, 10),
    ]
    assert merged.symbols == ("BTCUSDT", "ETHUSDT")


MERGE_FAULTS = [
    (["XRPETH,1,a,buy,1,1"], None, "two.csv:2: XRPETH is quoted in ETH, but the rows before in USDT"),
    (["ETHUSDT,1,z,buy,1,1", "ETHUSDT,2,a1,buy,1,1"], None, "two.csv:3: trade id a1 of ETHUSDT occurs a second time"),
    (["ETHUSDT,1,z,buy,1,1"], SPECS, "two.csv:2: ETHUSDT has other filters here than in an earlier file"),
]


@pytest.mark.parametrize(("rows", "specs", "message"), MERGE_FAULTS)
def test_files_that_do_not_belong_together_are_refused(
    rows: list[str], specs: dict[str, InstrumentSpec] | None, message: str
) -> None:
    with pytest.raises(RecordingError, match=message):
        merge_recordings([_parse(GOOD, file="one.csv"), _parse(rows, specs, file="two.csv")])


_MINIMAL = (
    '{"E": {"baseAsset": "E", "quoteAsset": "U", "quotePrecision": 1, "baseAssetPrecision": 1, "takerCommission": FEE}}'
)


def test_instruments_are_read_with_their_filters() -> None:
    text = """{"XRPETH": {"baseAsset": "XRP", "quoteAsset": "ETH", "baseAssetPrecision": 0, "quotePrecision": 8,
      "baseSizePrecision": "1", "quoteAmountPrecision": "0.005", "maxQuoteAmount": "2000", "makerCommission": "0",
      "takerCommission": "0.0005"}}"""
    assert parse_instruments(text, "x.json")["XRPETH"] == InstrumentSpec(
        "XRPETH", "XRP", "ETH", 8, 0, Decimal(1), Decimal("0.005"), Decimal(2000), Decimal(0), Decimal("0.0005")
    )


@pytest.mark.parametrize(
    ("text", "line_number", "reason"),
    [
        ("{", 1, "not JSON"),
        ('{"A": {},\n x}', 2, "not JSON"),
        ("[]", 1, "expected an object with one entry per symbol"),
        ("{}", 1, "expected an object with one entry per symbol"),
        ('{\n"ETHUSDT": 5}', 2, "ETHUSDT: expected an object"),
        ('{\n\n"ETHUSDT": {"quoteAsset": "USDT"}}', 3, "ETHUSDT: baseAsset must be a non-empty text"),
        (
            '{"E": {"baseAsset": "E", "quoteAsset": "U", "quotePrecision": 19}}',
            1,
            "quotePrecision must be a whole number",
        ),
        ('{"E": {"baseAsset": "E", "quoteAsset": "U", "quotePrecision": true}}', 1, "quotePrecision must be"),
        (
            _MINIMAL.replace("FEE", '"NaN"'),
            1,
            "takerCommission 'NaN' is not a finite number",
        ),
        (
            _MINIMAL.replace("FEE", "0.1"),
            1,
            "takerCommission must be a decimal number written as text",
        ),
    ],
)
def test_instruments_that_cannot_be_used_are_refused(text: str, line_number: int, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        parse_instruments(text, "x.json")
    assert caught.value.line_number == line_number
    assert reason in caught.value.reason


def test_a_large_file_is_parsed_within_seconds() -> None:
    count = 300_000
    symbols = ("ETHUSDT", "BTCUSDT", "SOLUSDT", "XRPUSDT")
    rows = [
        f"{symbols[n % 4]},{1_700_000_000_000 + 7 * n},{8_000_000_000 + n},buy,{1 + n % 977}.25,0.0{n % 9 + 1}"
        for n in range(count)
    ]
    started = time.perf_counter()
    recording = _parse(rows)
    assert time.perf_counter() - started < 5
    assert len(recording) == count
    assert int(np.sum(recording.price_ticks)) == sum((1 + n % 977) * 100 + 25 for n in range(count))
