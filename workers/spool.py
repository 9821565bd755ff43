"""Results that the control plane does not have yet: kept on disk, sent until it does.

One entry is a JSON file and, beside it, the attempt's log. Pool processes write
entries, the worker's own loop sends them, also after a restart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from farm.errors import StaleAttempt
from farm.protocol import LOG_CHUNK_BYTES, Finish, StepReport, Steps
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.control import AttemptControl, Control
from workers.logship import STEPS_PER_CALL

log = structlog.get_logger()


@dataclass(frozen=True)
class Undelivered:
    """The end of an attempt, as it is kept."""

    part: int
    attempt: int
    claim: str
    verb: Literal["finish", "hand-back"]
    finish: Finish | None
    message: str
    steps: list[StepReport]


class Spool:
    """The folder of undelivered ends and their logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder; once, before any attempt."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def log_path(self, part: int, attempt: int, claim: str) -> Path:
        """Where the log of an attempt is kept from its first line on."""
        return self._folder / f"{part}.{attempt}.{claim[:8]}.log"

    def keep(self, end: Undelivered) -> None:
        """Keep an end; it is on the disk when this returns."""
        path = self._entry_path(end)
        fresh = path.with_suffix(".new")
        body = {
            "part": end.part,
            "attempt": end.attempt,
            "claim": end.claim,
            "verb": end.verb,
            "finish": end.finish.model_dump(mode="json") if end.finish else None,
            "message": end.message,
            "steps": [step.model_dump(mode="json") for step in end.steps],
        }
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        log.warning("result_kept", attempt=path.stem, verb=end.verb)

    def holds(self, part: int, attempt: int, claim: str) -> bool:
        """Whether the end of that attempt waits here already."""
        return self.log_path(part, attempt, claim).with_suffix(".json").exists()

    def send(self, control: Control) -> int:
        """Try every entry once; how many are left."""
        left = 0
        for path in sorted(self._folder.glob("*.json")):
            end = _read(path)
            if end is None or self._delivered(control, end):
                path.unlink(missing_ok=True)
                path.with_suffix(".log").unlink(missing_ok=True)
            else:
                left += 1
        return left

    def logs(self) -> list[Path]:
        """The logs that are there: of attempts that run, wait to be sent, or are gone."""
        return list(self._folder.glob("*.log"))

    def drop_orphans(self, logs: Iterable[Path], *, in_use: set[str]) -> None:
        """Of these logs, remove those whose attempts neither run (`<part>.<attempt>`) nor wait."""
        for path in logs:
            name = ".".join(path.name.split(".")[:2])
            if name not in in_use and not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)

    def _entry_path(self, end: Undelivered) -> Path:
        return self.log_path(end.part, end.attempt, end.claim).with_suffix(".json")

    def _delivered(self, control: Control, end: Undelivered) -> bool:
        """Whether the control plane has it now, or does not want it."""
        attempt = control.attempt(end.part, end.attempt, end.claim)
        try:
            _send_log_and_steps(attempt, self.log_path(end.part, end.attempt, end.claim), end.steps)
            if end.finish is not None:
                attempt.finish(end.finish)
            else:
                attempt.hand_back(end.message)
        except StaleAttempt:
            log.info("result_void", attempt=attempt.name)
        except (ControlSilent, NotEnrolled):
            return False
        except ControlRefused as exc:
            log.warning("result_refused", attempt=attempt.name, error=str(exc))
        else:
            log.info("result_delivered", attempt=attempt.name, verb=end.verb)
        return True


def _send_log_and_steps(attempt: AttemptControl, log_path: Path, steps: list[StepReport]) -> None:
    """Both are worth less than the end: when one is refused, the end goes without it."""
    try:
        _send_log(attempt, log_path)
    except ControlRefused as exc:
        log.warning("log_refused", attempt=attempt.name, error=str(exc))
    try:
        for start in range(0, len(steps), STEPS_PER_CALL):
            attempt.steps(Steps(steps=steps[start : start + STEPS_PER_CALL]))
    except ControlRefused as exc:
        log.warning("steps_refused", attempt=attempt.name, error=str(exc))


def _send_log(attempt: AttemptControl, path: Path) -> None:
    """Send a whole log from where the control plane has it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        size = path.stat().st_size
        # An empty piece at the end asks how much is there already.
        offset = attempt.log(size, b"").size
        while offset < size:
            file.seek(offset)
            answer = attempt.log(offset, file.read(LOG_CHUNK_BYTES))
            if answer.size <= offset:
                break
            offset = answer.size


def _read(path: Path) -> Undelivered | None:
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Undelivered(
            part=body["part"],
            attempt=body["attempt"],
            claim=body["claim"],
            verb=body["verb"],
            finish=Finish.model_validate(body["finish"]) if body["finish"] else None,
            message=body["message"],
            steps=[StepReport.model_validate(step) for step in body["steps"]],
        )
    except (OSError, ValueError, KeyError) as exc:
        log.warning("result_unreadable", file=path.name, error=type(exc).__name__)
        return None
