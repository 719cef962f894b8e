"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FAULTS_SHOWN: Final = 5


@dataclass(slots=True)
class Check:
    """One invariant. It holds if something was compared and nothing was wrong."""

    id: str
    what: str
    compared: int = 0
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        """Count one comparison."""
        self.compared += 1
        if not holds:
            self.faults.append(fault)

    @property
    def ok(self) -> bool:
        return self.compared > 0 and not self.faults

    def row(self) -> dict[str, object]:
        if not self.compared:
            detail = "compared nothing, so nothing is proven"
        elif self.faults:
            more = len(self.faults) - FAULTS_SHOWN
            detail = "; ".join(self.faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        else:
            detail = self.what
        return {"id": self.id, "ok": self.ok, "compared": self.compared, "detail": detail}
