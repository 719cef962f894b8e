"""Our messages on the wire: known frames, presence, and another implementation's classes."""

from __future__ import annotations

import pytest
from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper as ForeignWrapper
from google.protobuf.json_format import MessageToDict

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.proto.golden import GOLDEN_FRAMES

BODIES = [
    "publicDeals",
    "publicIncreaseDepths",
    "publicLimitDepths",
    "privateOrders",
    "publicBookTicker",
    "privateDeals",
    "privateAccount",
    "publicSpotKline",
    "publicMiniTicker",
    "publicMiniTickers",
    "publicBookTickerBatch",
    "publicIncreaseDepthsBatch",
    "publicAggreDepths",
    "publicAggreDeals",
    "publicAggreBookTicker",
]

EXPECTED_VALUES = {
    "deals without trade id": {
        "channel": "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": "1736409765052",
        "publicAggreDeals": {
            "deals": [{"price": "93220.00", "quantity": "0.04438243", "tradeType": 2, "time": "1736409765051"}],
            "eventType": "spot@public.aggre.deals.v3.api.pb@100ms",
        },
    },
    "two deals with trade ids": {
        "channel": "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": "1736409765052",
        "publicAggreDeals": {
            "deals": [
                {
                    "price": "93220.00",
                    "quantity": "0.04438243",
                    "tradeType": 2,
                    "time": "1736409765051",
                    "tradeId": "730292425431437318X0_730292425431437319X0",
                },
                {
                    "price": "93220.01",
                    "quantity": "0.001",
                    "tradeType": 1,
                    "time": "1736409765052",
                    "tradeId": "730292425431437320X0_730292425431437321X0",
                },
            ],
            "eventType": "spot@public.aggre.deals.v3.api.pb@100ms",
        },
    },
    "book ticker of old": {
        "channel": "spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": "1736412092433",
        "publicAggreBookTicker": {
            "bidPrice": "93387.28",
            "bidQuantity": "3.73485",
            "askPrice": "93387.29",
            "askQuantity": "7.669875",
        },
    },
    "book ticker with version": {
        "channel": "spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT",
        "symbol": "BTCUSDT",
        "sendTime": "1736412092433",
        "publicAggreBookTicker": {
            "bidPrice": "93387.28",
            "bidQuantity": "3.73485",
            "askPrice": "93387.29",
            "askQuantity": "7.669875",
            "version": "81721676217",
            "lastOrderCreateTime": "1736412092400",
        },
    },
    "kline": {
        "channel": "spot@public.kline.v3.api.pb@BTCUSDT@Min15",
        "symbol": "BTCUSDT",
        "symbolId": "2fb942154ef44a4ab2ef98c8afb6a4a7",
        "createTime": "1736410707571",
        "publicSpotKline": {
            "interval": "Min15",
            "windowStart": "1736410500",
            "openingPrice": "92925",
            "closingPrice": "93158.47",
            "highestPrice": "93158.47",
            "lowestPrice": "92800",
            "volume": "36.83803224",
            "amount": "3424811.05",
            "windowEnd": "1736411400",
        },
    },
    "private order": {
        "channel": "spot@private.orders.v3.api.pb",
        "symbol": "MXUSDT",
        "sendTime": "1736417034281",
        "privateOrders": {
            "id": "C02__505979017439002624115",
            "price": "3.5121",
            "quantity": "1",
            "amount": "0",
            "avgPrice": "3.6962",
            "orderType": 5,
            "tradeType": 2,
            "remainAmount": "0",
            "remainQuantity": "0",
            "lastDealQuantity": "1",
            "cumulativeQuantity": "1",
            "cumulativeAmount": "3.6962",
            "status": 2,
            "createTime": "1736417034259",
        },
    },
    "private deal": {
        "channel": "spot@private.deals.v3.api.pb",
        "symbol": "MXUSDT",
        "sendTime": "1736417034332",
        "privateDeals": {
            "price": "3.6962",
            "quantity": "1",
            "amount": "3.6962",
            "tradeType": 2,
            "tradeId": "505979017439002624X1",
            "orderId": "C02__505979017439002624115",
            "feeAmount": "0.0003998377369698171",
            "feeCurrency": "MX",
            "time": "1736417034280",
        },
    },
    "private account": {
        "channel": "spot@private.account.v3.api.pb",
        "createTime": "1736417034305",
        "sendTime": "1736417034307",
        "privateAccount": {
            "vcoinName": "USDT",
            "coinId": "128f589271cb4951b03e71e6323eb7be",
            "balanceAmount": "21.94210356004384",
            "balanceAmountChange": "10",
            "frozenAmount": "0",
            "frozenAmountChange": "0",
            "type": "CONTRACT_TRANSFER",
            "time": "1736416910000",
        },
    },
}


@pytest.mark.parametrize("name", GOLDEN_FRAMES)
def test_a_known_frame_decodes_to_its_values_and_encodes_to_its_bytes(name: str) -> None:
    frame = bytes.fromhex(GOLDEN_FRAMES[name])
    message = PushDataV3ApiWrapper.FromString(frame)
    assert MessageToDict(message) == EXPECTED_VALUES[name]
    assert message.SerializeToString() == frame


def test_the_bodies_have_the_official_numbers() -> None:
    oneof = PushDataV3ApiWrapper.DESCRIPTOR.oneofs_by_name["body"]
    assert {field.name: field.number for field in oneof.fields} == {
        name: number for number, name in enumerate(BODIES, start=301)
    }


@pytest.mark.parametrize("name", ["symbol", "symbolId", "createTime", "sendTime"])
def test_an_optional_field_of_the_wrapper_tells_absent_from_empty(name: str) -> None:
    absent, empty = PushDataV3ApiWrapper(), PushDataV3ApiWrapper()
    setattr(empty, name, type(getattr(empty, name))())
    assert not absent.HasField(name)
    assert PushDataV3ApiWrapper.FromString(empty.SerializeToString()).HasField(name)
    assert absent.SerializeToString() == b""


def test_an_optional_field_of_an_order_tells_absent_from_zero() -> None:
    message = PushDataV3ApiWrapper()
    message.privateOrders.triggerType = 0
    decoded = PushDataV3ApiWrapper.FromString(message.SerializeToString())
    assert decoded.privateOrders.HasField("triggerType")
    assert not decoded.privateOrders.HasField("lastDealQuantity")


def test_a_frame_without_a_body_says_so() -> None:
    assert PushDataV3ApiWrapper.FromString(b"").WhichOneof("body") is None


@pytest.mark.parametrize("name", GOLDEN_FRAMES)
def test_another_implementation_reads_our_frames_and_we_read_its(name: str) -> None:
    ours = PushDataV3ApiWrapper.FromString(bytes.fromhex(GOLDEN_FRAMES[name]))
    theirs = ForeignWrapper.FromString(ours.SerializeToString())
    assert theirs.WhichOneof("body") == ours.WhichOneof("body")
    assert theirs.channel == ours.channel
    assert PushDataV3ApiWrapper.FromString(theirs.SerializeToString()) == ours


@pytest.mark.parametrize("body", BODIES)
def test_every_body_has_the_fields_that_another_implementation_knows(body: str) -> None:
    mine = PushDataV3ApiWrapper.DESCRIPTOR.fields_by_name[body].message_type
    foreign = ForeignWrapper.DESCRIPTOR.fields_by_name[body].message_type
    assert mine is not None
    numbers = {field.name: (field.number, field.type, field.has_presence) for field in mine.fields}
    compared = {field.name: (field.number, field.type, field.has_presence) for field in foreign.fields}
    assert compared
    assert compared.items() <= numbers.items()


def test_a_trade_id_survives_an_implementation_that_does_not_know_it() -> None:
    ours = PushDataV3ApiWrapper(channel="c")
    ours.publicAggreDeals.deals.add(price="1", quantity="2", tradeType=1, time=3, tradeId="id-4")
    theirs = ForeignWrapper.FromString(ours.SerializeToString())
    assert not hasattr(theirs.publicAggreDeals.deals[0], "tradeId")
    assert PushDataV3ApiWrapper.FromString(theirs.SerializeToString()).publicAggreDeals.deals[0].tradeId == "id-4"
