"""The state strip as data for the browser."""

from __future__ import annotations

from typing import Any

from apps.live.sources import Sentence


def strip_of(sentence: Sentence) -> dict[str, Any]:
    """Text only; the browser builds no sentence of its own."""
    return {
        "line": sentence.line,
        "severity": str(sentence.severity),
        "situation": sentence.situation,
        "parts": [
            {"name": part.name, "text": part.text, "abnormal": part.abnormal, "since_ms": part.since_ms}
            for part in sentence.parts
        ],
    }
