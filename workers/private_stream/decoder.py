"""One private frame to the id of the order that it is about."""

from __future__ import annotations

import re
from typing import Final

from google.protobuf.message import DecodeError

from proto.gen.push_pb2 import PushDataV3ApiWrapper

ORDERS: Final = "spot@private.orders.v3.api.pb"
DEALS: Final = "spot@private.deals.v3.api.pb"
ACCOUNT: Final = "spot@private.account.v3.api.pb"
CHANNELS: Final = (ORDERS, DEALS, ACCOUNT)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class NoPrivateFrame(ValueError):
    """A frame that is none of the three kinds, or whose order has no id of ours."""


def order_of(payload: bytes) -> str | None:
    """The caller's id of the order that has changed or traded; None for a balance. Raises `NoPrivateFrame`.

    Nothing else of a frame is used: frames come late, twice, in another order or not at all.
    """
    try:
        wrapper = PushDataV3ApiWrapper.FromString(payload)
    except DecodeError:
        raise NoPrivateFrame(f"{len(payload)} bytes that are no frame") from None
    body = wrapper.WhichOneof("body")
    if body == "privateAccount":
        return None
    if body == "privateOrders":
        client_order_id = wrapper.privateOrders.clientId
    elif body == "privateDeals":
        client_order_id = wrapper.privateDeals.clientOrderId
    else:
        raise NoPrivateFrame(f"a frame with {body}")
    if not _ID.fullmatch(client_order_id):
        raise NoPrivateFrame(f"{body} of an order without an id of ours")
    return client_order_id
