"""The socket of one staff page: a snapshot when it opens, then what changed, at the speed the page can follow."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError, InterfaceError
from django.utils.crypto import constant_time_compare

from apps.engine import timeouts
from apps.live.frame import wall_ms
from apps.live.pages import PAGES
from apps.live.pusher import Box, Frame, Pusher, pusher
from apps.live.signing_out import session_mark

log = logging.getLogger(__name__)

TOO_SLOW: Final = 4008
NOT_UNDERSTOOD: Final = 4400
SIGNED_OUT: Final = 4401
LIFETIME_OVER: Final = 4410
ACK_BYTES_MAX: Final = 64


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends frames `{"type", "seq", "server_ms", "checked_ms", ...}`; the page answers each snapshot or delta with
    `{"ack": seq}`. At most one of these is under way; a page that does not answer in time is closed with 4008.
    """

    channel_layer_alias = None  # the pusher listens for the whole process; a socket needs no queue of its own in Redis

    async def connect(self) -> None:
        user, session = self.scope.get("user"), self.scope.get("session")
        if user is None or not user.is_authenticated or not (user.is_active and user.is_staff) or session is None:
            log.warning("socket refused: not a signed-in member of staff")
            await self.close()
            return
        self.pusher: Pusher = pusher()
        if not self.pusher.has_room(user.pk):
            log.warning("socket refused: user %s has too many open pages", user.pk)
            await self.close()
            return
        self.session_key: str = session.session_key
        self.user_pk: int = user.pk
        page = self.scope.get("query_string", b"").decode("ascii", "replace")
        self.box = Box(user.pk, session_mark(self.session_key), page if page in PAGES else "")
        self.seq = 0
        self.begun = False
        self.unacked: int | None = None
        self.acked = asyncio.Event()
        self.sent: dict[str, int] = {}
        await self.accept()
        self.pusher.join(self.box)
        self.tasks = [asyncio.create_task(work()) for work in (self._push, self._heartbeat, self._watch)]

    async def disconnect(self, code: int) -> None:
        if not hasattr(self, "box"):
            return
        me = asyncio.current_task()
        others = [task for task in self.tasks if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.pusher.leave(self.box)
        log.info("socket of user %s closed with code %s after %d frames", self.user_pk, code, self.seq)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002  (called by name)
        seq = _ack(text_data)
        if seq is None or seq > self.seq:
            await self.close(code=NOT_UNDERSTOOD, reason="only acknowledgements are understood")
            return
        if seq == self.unacked:
            self.unacked = None
            self.acked.set()

    async def _push(self) -> None:
        """Snapshots and deltas, one at a time."""
        while True:
            await self.box.changed.wait()
            self.box.changed.clear()
            if self.box.signed_out:
                await self.close(code=SIGNED_OUT, reason="signed out")
                return
            frame = self.pusher.latest
            if frame is None:
                continue
            if not await self._send_frame(frame):
                return
            await asyncio.sleep(timeouts.LIVE_PUSH_MS / 1000)

    async def _send_frame(self, frame: Frame) -> bool:
        """Send what this page does not have yet and wait for its answer. False if it was too slow and is closed."""
        kind = "delta" if self.begun else "snapshot"
        sections = frame.sections.get(self.box.page, {})
        changed = {name: html for name, (version, html) in sections.items() if self.sent.get(name) != version}
        self.begun = True
        self.acked.clear()
        self.unacked = self.seq + 1
        body = {"type": kind, "strip": frame.strip, "data_at_ms": frame.data_at_ms, "sections": changed}
        try:
            async with asyncio.timeout(timeouts.LIVE_CLIENT_ACK_SECONDS):
                await self._send(body, frame.server_ms)
                await self.acked.wait()
        except TimeoutError:
            log.warning("socket of user %s is too slow and is closed", self.user_pk)
            await self.close(code=TOO_SLOW, reason="too slow")
            return False
        self.sent.update({name: version for name, (version, _) in sections.items()})
        return True

    async def _send(self, body: dict[str, Any], server_ms: int) -> None:
        self.seq += 1
        frame = {**body, "seq": self.seq, "server_ms": server_ms, "checked_ms": self.pusher.checked_ms}
        await self.send(text_data=json.dumps(frame, separators=(",", ":")))

    async def _heartbeat(self) -> None:
        """Says that the server lives, and how recent its own knowledge is. The page's timer hangs on this alone."""
        while True:
            await asyncio.sleep(timeouts.LIVE_HEARTBEAT_SECONDS)
            await self._send({"type": "heartbeat"}, wall_ms())

    async def _watch(self) -> None:
        """Close the socket when the login behind it is over, and in any case before a day is."""
        for _ in range(timeouts.LIVE_SOCKET_LIFETIME_SECONDS // timeouts.LIVE_SESSION_CHECK_SECONDS):
            await asyncio.sleep(timeouts.LIVE_SESSION_CHECK_SECONDS)
            try:
                valid = await database_sync_to_async(still_signed_in)(self.session_key, self.user_pk)
            except (DatabaseError, InterfaceError):
                continue  # not known; asked again in a minute
            if not valid:
                await self.close(code=SIGNED_OUT, reason="signed out")
                return
        await self.close(code=LIFETIME_OVER, reason="open for too long")


def still_signed_in(session_key: str, user_pk: int) -> bool:
    """Whether this login still belongs to this active member of staff, with the password it was made with."""
    session = SessionStore(session_key)
    if str(session.get(SESSION_KEY)) != str(user_pk) or BACKEND_SESSION_KEY not in session:
        return False
    user = get_user_model().objects.filter(pk=user_pk, is_active=True, is_staff=True).first()
    return user is not None and constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())


def _ack(text: str | None) -> int | None:
    """The number that a page acknowledges; None if the message is anything else."""
    if text is None or len(text) > ACK_BYTES_MAX:
        return None
    try:
        message = json.loads(text)
    except ValueError:
        return None
    seq = message.get("ack") if isinstance(message, dict) else None
    return seq if isinstance(seq, int) and not isinstance(seq, bool) else None
