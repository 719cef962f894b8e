"""Listen keys: what the private stream is opened with. Whoever listens needs no other key, and no secret."""

from __future__ import annotations

from apps.execution.venues.base import VenueUnclear
from apps.execution.venues.mexc.client import Client
from apps.execution.venues.mexc.documents import ListenKeyRow, ListenKeyRows, read
from apps.execution.venues.mexc.errors import Meaning, Refused


class ListenKeys:
    """Every call may raise `VenueUnclear`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def make(self) -> str:
        return read(self._call("POST"), ListenKeyRow).listenKey

    def alive(self, key: str) -> bool:
        """Whether the exchange still knows it."""
        return key in read(self._call("GET"), ListenKeyRows).listenKey

    def extend(self, key: str) -> bool:
        """A whole life from now on; False if it is over."""
        return self._done("PUT", key)

    def close(self, key: str) -> None:
        """An account may have 60: whoever leaves gives its key back. One that is over is no trouble."""
        self._done("DELETE", key)

    def _done(self, method: str, key: str) -> bool:
        try:
            self._client.call(method, "userDataStream", listenKey=key)
        except Refused as refusal:
            if refusal.meaning is Meaning.NO_LISTEN_KEY:
                return False
            raise VenueUnclear(f"listen key: {refusal}") from None
        return True

    def _call(self, method: str) -> object:
        try:
            answer: object = self._client.call(method, "userDataStream")
        except Refused as refusal:
            raise VenueUnclear(f"listen key: {refusal}") from None
        return answer
