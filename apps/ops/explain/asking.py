"""The one door to the chain: for the command, for pages and for whoever else wants it as values."""

from __future__ import annotations

from dataclasses import replace

import redis
from django.conf import settings

from apps.bus import clients
from apps.ops.explain.chain import explained
from apps.ops.explain.parts import Explanation
from apps.ops.explain.proving import prove
from apps.ops.explain.stream import Sources
from apps.ops.explain.subjects import NoSubject, find


def explain(name: str, *, now_ms: int, sources: Sources | None = None, verify: bool = False) -> Explanation:
    """The chain behind `order:ID`, `trade:ID`, `signal:ID`, `decision:ID`, `refusal:ID` or a client order id.

    `now_ms` is the wall clock; `verify` works every number out again. Raises `NoSubject` with one line.
    """
    subject = find(name)
    where = sources or here()
    try:
        found = explained(subject, sources=where, now_ms=now_ms)
    except LookupError as error:
        raise NoSubject(str(error)) from error
    if not verify or subject.signal is None:
        return found
    if found.missing:
        return replace(found, proof=(), unproven=("links are missing, so nothing was worked out again",))
    proof = prove(subject.signal, where)
    return replace(found, proof=tuple(proof.rows), unproven=tuple(proof.unproven))


def here() -> Sources:
    """Where this installation keeps trades. A Redis that does not answer at once is passed by."""
    client: redis.Redis = clients.glance(settings.REDIS_URL)
    return Sources(client, settings.SEGMENTS_DIR, settings.ARCHIVE_DIR)


__all__ = ["Explanation", "NoSubject", "explain", "here"]
