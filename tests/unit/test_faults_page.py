"""docs/faults.md names tests: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    page = (CHECKOUT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = NAMED.findall(page)
    assert len(named) > 20
    missing = [
        f"{file}::{name}" for file, name in named if name not in functions_of(CHECKOUT / file)
    ]
    assert missing == []


def test_every_row_of_the_table_of_faults_names_a_test_or_says_not_yet() -> None:
    page = (CHECKOUT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    last_cells = [row.split("|")[-2].strip() for row in rows]
    bad = [cell for cell in last_cells if cell not in ("test", "not yet") and not NAMED.match(cell)]
    assert bad == []


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
