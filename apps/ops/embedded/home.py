"""A data directory: its layout version, its secrets and the folder its servers keep their files in.

    <data directory>/       0700, belongs to whoever starts the stack
      layout                JSON: layout version, instance id, folder of the servers
      secrets/              0700, one 0600 file per secret
      servers/              as a normal user: PostgreSQL's and Valkey's files
    /var/lib/cdb/           as root: programs/ and servers/<instance id>/, which the account `cdb` can reach

Nothing here changes the mode of a directory that existed before.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apps.ops.embedded.account import SYSTEM_DIR, Account, own_directory, service_account

LAYOUT_VERSION = 1
OWNER_SUFFIX = ".owner"
"""As root, beside the servers' folder: a file that names the data directory they belong to."""
SECRET_NAMES = ("django_secret_key", "postgres_password", "valkey_password", "flower_password", "flower_cookie_secret")


class Refusal(Exception):
    """Something a person has to put right, said in one line. The process ends with exit code 2."""


@dataclass(frozen=True, slots=True)
class Home:
    root: Path
    instance: str
    servers: Path
    account: Account | None
    """Whom the servers run as; None means as ourselves."""

    def secret(self, name: str) -> str:
        path = self.root / "secrets" / name
        try:
            value = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Refusal(f"secret {name}: cannot read {path}: {error.strerror}") from error
        if not value:
            raise Refusal(f"secret {name}: {path} is empty")
        return value


def open_home(root: Path) -> Home:
    """The data directory at `root` with all its secrets, made if it is not there. Raises Refusal."""
    root = root.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(root)
        if not (root / "layout").exists():
            _create(root)
    except OSError as error:
        raise _unusable(root, error) from error
    home = read_home(root)
    for name in SECRET_NAMES:
        home.secret(name)
    return home


def read_home(root: Path) -> Home:
    """The data directory at `root` as it is, whatever state its secrets are in. Raises Refusal."""
    root = root.absolute()
    try:
        _refuse_foreign(root)
        layout = json.loads((root / "layout").read_text(encoding="utf-8"))
        version, instance = int(layout["layout"]), str(layout["instance"])
        account = service_account()
    except OSError as error:
        raise _unusable(root, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"data directory {root}: the file `layout` is not readable; is this a data directory?") from error
    if version != LAYOUT_VERSION:
        raise Refusal(f"data directory {root} has layout version {version}, this program needs {LAYOUT_VERSION}")
    return Home(root, instance, SYSTEM_DIR / "servers" / instance if account else root / "servers", account)


def claim_servers(home: Home) -> None:
    """Make the servers' folder; as root note beside it whose it is."""
    own_directory(home.servers, home.account)
    if home.account:
        home.servers.with_suffix(OWNER_SUFFIX).write_text(str(home.root), encoding="utf-8")


def forsaken_servers() -> list[tuple[Path, Path]]:
    """Root keeps servers' files outside the data directory: folders whose data directory is gone, and where it was."""
    found = []
    for note in sorted((SYSTEM_DIR / "servers").glob(f"*{OWNER_SUFFIX}")):
        owner = Path(note.read_text(encoding="utf-8"))
        layout = owner / "layout"
        if not layout.exists() or note.stem not in layout.read_text(encoding="utf-8"):
            found.append((note.with_suffix(""), owner))
    return found


def remove_servers(home: Home) -> None:
    """Remove the servers' files; nothing of theirs may be running."""
    shutil.rmtree(home.servers, ignore_errors=True)
    home.servers.with_suffix(OWNER_SUFFIX).unlink(missing_ok=True)


def _refuse_foreign(root: Path) -> None:
    owner = root.stat().st_uid
    if owner != os.geteuid():
        raise Refusal(f"data directory {root} belongs to user {owner}, not to user {os.geteuid()}")


def _unusable(root: Path, error: OSError) -> Refusal:
    return Refusal(f"data directory {root} cannot be used: {error.filename or root}: {error.strerror}")


def _create(root: Path) -> None:
    """Secrets first, the layout file last: a start that was cut off here is simply made again."""
    (root / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name in SECRET_NAMES:
        if not (root / "secrets" / name).exists():
            write_private(root / "secrets" / name, secrets.token_urlsafe(32))
    instance = secrets.token_hex(8)
    write_private(root / "layout", json.dumps({"layout": LAYOUT_VERSION, "instance": instance}))


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    draft.replace(path)


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do, so that the last connections of a stopped server (TIME_WAIT) do not count as "busy".
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick_port(taken: Iterable[int] = ()) -> int:
    """A free loopback port below the range from which the kernel takes ports of outgoing connections."""
    for _ in range(200):
        port = 15_000 + secrets.randbelow(17_000)
        if port not in set(taken) and port_is_free(port):
            return port
    raise Refusal("no free loopback port between 15000 and 32000")
