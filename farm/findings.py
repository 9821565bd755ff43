"""What a doctor finds. Apart from `farm.doctor`, so that workers need not know the database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check: what was seen, and when it is not as it should be what to do about it."""

    check: str
    ok: bool
    detail: str
    cure: str = ""
