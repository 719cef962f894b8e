"""`python -m tests.faultproxy --listen PORT --to HOST:PORT`: the proxy as a process, commanded by lines on its input.

A line is a method of FaultProxy and its arguments, for instance `delay 0.5 0.1 down`, `drop`, `drop up discard`,
`cut_after 1000 down`, `corrupt 20`, `throttle 5000`, `reset`, `refuse`, `blackhole`, `heal`, `counters`. Every line is
answered by one line: `ok`, the counters as JSON, or `error: ...`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from tests.faultproxy import BOTH, DOWN, UP, FaultProxy

COMMANDS: Final = {
    "heal": (),
    "delay": (float, float),
    "throttle": (float,),
    "drop": (),
    "reset": (),
    "cut_after": (int,),
    "corrupt": (int,),
    "refuse": (),
    "blackhole": (),
}
_FLAGS: Final = {"discard": ("discard", True), "new": ("new", True), "close": ("how", "close")}


def perform(proxy: FaultProxy, line: str) -> str:
    """Carry one command line out; the answer's text."""
    name, *words = line.split()
    if name == "counters":
        return json.dumps(asdict(proxy.counters()))
    kinds: Sequence[Callable[[str], Any]] = COMMANDS.get(name, ())
    if name not in COMMANDS:
        return f"error: {name} is none of {', '.join(COMMANDS)}, counters"
    options: dict[str, Any] = {}
    numbers = []
    for word in words:
        if word in (UP, DOWN, BOTH):
            options["direction"] = word
        elif word in _FLAGS:
            options.update([_FLAGS[word]])
        else:
            numbers.append(word)
    try:
        arguments = [kind(number) for kind, number in zip(kinds, numbers, strict=False)]
        getattr(proxy, name)(*arguments, **options)
    except (ValueError, TypeError) as error:
        return f"error: {error}"
    return "ok"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.faultproxy", description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, default=0, metavar="PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    host, _, port = options.to.rpartition(":")
    with FaultProxy(host, int(port), port=options.listen, seed=options.seed) as proxy:
        print(f"listening {proxy.host}:{proxy.port}", flush=True)
        for line in sys.stdin:
            if line.strip():
                print(perform(proxy, line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
