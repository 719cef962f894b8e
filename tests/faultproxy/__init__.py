"""A TCP proxy that misbehaves on command: `with FaultProxy("127.0.0.1", port) as proxy: proxy.drop()`."""

from __future__ import annotations

from tests.faultproxy.pipe import BOTH, DOWN, UP, Direction
from tests.faultproxy.proxy import Counters, FaultProxy

__all__ = ["BOTH", "DOWN", "UP", "Counters", "Direction", "FaultProxy"]
