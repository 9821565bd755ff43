"""Writes docs/reference.md from the code: settings, reasons, waiting reasons, error codes.

`python scripts/reference.py` writes, `--check` fails when the file is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from farm.reasons import Reason, WaitReason
from farm.settings import SECRET_SETTINGS, Settings, variable_of

TARGET = Path(__file__).parent.parent / "docs" / "reference.md"
_COMPUTED = {
    "data_dir": "~/.local/share/farm",
    "worker_name": "the host's name",
    "worker_slots": "its cores",
}


def main() -> int:
    """Write or compare; returns the exit code."""
    text = reference()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("docs/reference.md is not what the code says: run scripts/reference.py", file=sys.stderr)
    return 1


def reference() -> str:
    """The page."""
    parts = [
        "# Reference\n\nMade by `scripts/reference.py` from the code; CI compares.\n",
        _settings(),
        _reasons(),
        _waiting(),
    ]
    return "\n".join(parts)


def _settings() -> str:
    lines = [
        "## Settings\n",
        "Read once at start from the environment; an unknown `FARM_` name is an error.",
        "`farm config check` prints them with where each came from.\n",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = _COMPUTED.get(name) or field.default
        shown = "" if default in (None, "") else f"`{default}`"
        also = f" Also as `{variable_of(name)}_FILE`." if name in SECRET_SETTINGS else ""
        lines.append(f"| `{variable_of(name)}` | {shown} | {_flat(field.description)}{also} |")
    return "\n".join(lines) + "\n"


def _reasons() -> str:
    lines = ["## Reasons\n", "| reason | whose fault | cause | cure |", "|---|---|---|---|"]
    lines += [f"| `{r}` | {r.fault.value} | {r.cause} | {r.cure} |" for r in Reason]
    return "\n".join(lines) + "\n"


def _waiting() -> str:
    lines = ["## Why a build waits\n", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {reason.sentence} |" for reason in WaitReason]
    return "\n".join(lines) + "\n"


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.exit(main())
