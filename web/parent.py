"""Tying a process's life to its parent's: nothing that we start outlives whoever started it."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel for a signal to this process when its parent dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
