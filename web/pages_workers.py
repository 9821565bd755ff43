"""What the list of workers shows beside the words: how full each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from farm.views import WorkerView

SCALE: Final = 1000
_KINDS: Final = {
    "online": "succeeded",
    "draining": "queued",
    "engine down": "failed",
    "offline": "cancelled",
}


@dataclass(frozen=True)
class Row:
    """A worker, how full its slots and its disk are (in thousandths), its state's colour."""

    worker: WorkerView
    busy: int
    disk: int
    disk_low: bool
    """Below the watermark: it gets no builds."""

    @property
    def kind(self) -> str:
        """Which of the page's colours its state has."""
        return _KINDS[self.worker.state]


def rows(workers: Sequence[WorkerView], *, disk_watermark: int) -> list[Row]:
    """One row for each worker."""
    return [
        Row(
            worker,
            _share(worker.busy, worker.slots),
            _share(worker.disk_used, worker.disk_total),
            disk_low=bool(worker.disk_total) and worker.disk_free < disk_watermark,
        )
        for worker in workers
    ]


def _share(part: int, whole: int) -> int:
    return min(SCALE, SCALE * part // whole) if whole else 0
