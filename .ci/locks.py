"""The lock files pin every package with hashes, name every package asked for, and hold no address of any server."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FOLDER = Path("requirements")


def problems(name: str) -> list[str]:
    """What is wrong with `requirements/<name>.txt`, one line each."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    found = [f"{name}.txt holds an address: {match}" for match in re.findall(r"\w+://\S+", text)]
    blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^#.*\n", "", text).strip())
    pinned: set[str] = set()
    for block in blocks:
        pin = re.match(r"([A-Za-z0-9._-]+)==\S+", block)
        if pin is None or "--hash=sha256:" not in block:
            found.append(f"{name}.txt: not pinned with a hash: {block.splitlines()[0]}")
        else:
            pinned.add(canonical(pin[1]))
    for line in (FOLDER / f"{name}.in").read_text(encoding="utf-8").splitlines():
        asked = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if asked and canonical(asked[1]) not in pinned:
            found.append(f"{name}.txt lacks {asked[1]} of {name}.in: run `make lock`")
    return found


def page_problems() -> list[str]:
    """The same for the front-end packages."""
    lock = FOLDER / "npm" / "package-lock.json"
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"].items()
    bare = [f"{lock}: {name} has no integrity hash" for name, entry in packages if name and "integrity" not in entry]
    return bare + [f"{lock}: {name} holds an address" for name, entry in packages if "resolved" in entry]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    lines = [*problems("base"), *problems("dev"), *problems("bench"), *page_problems()]
    print("\n".join(lines) or "locks: every package is pinned with hashes, no addresses")
    sys.exit(1 if lines else 0)
