"""The generated package is what the one command makes of the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from proto.generate import PROTO_DIRECTORY, generate


def _contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.suffix in {".py", ".pyi"}}


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    generate(tmp_path)
    committed = _contents(PROTO_DIRECTORY / "gen")
    assert len(committed) == 7
    assert _contents(tmp_path / "proto" / "gen") == committed


def test_a_schema_without_generated_code_would_be_noticed(tmp_path: Path) -> None:
    generate(tmp_path)
    names = {path.stem for path in (PROTO_DIRECTORY / "schema").glob("*.proto")}
    made = {path.stem.removesuffix("_pb2") for path in (tmp_path / "proto" / "gen").glob("*_pb2.py")}
    assert made == names


def test_ours_and_another_librarys_messages_load_in_either_order() -> None:
    imports = ("import proto.gen.push_pb2", "import ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2")
    for first, second in (imports, imports[::-1]):
        subprocess.run([sys.executable, "-W", "error", "-c", f"{first}\n{second}"], check=True, timeout=60)
