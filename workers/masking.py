"""Secret values never reach a log: every form in which they could appear becomes `***`.

A build can print a secret raw, encoded, or a byte at a time; a masker therefore
works on a stream and holds back what could still become a secret. What a build
compresses, reverses or encrypts cannot be found: docs/security.md says so.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = b"***"
MIN_LENGTH = 4
"""Shorter values would blank out ordinary words; the API refuses them as secrets."""

_BASE64_LINE = 76
"""Where the `base64` tool and MIME wrap their lines."""


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """The characters that a value fixes in base64, wherever it stands in a longer text.

    With `ahead` unknown bytes before it (modulo 3) the first characters mix both, and
    so may the last one: neither is part of the form.
    """
    for ahead in range(3):
        encoded = base64.b64encode(b"\0" * ahead + value)
        first = (ahead * 8 + 5) // 6
        last = (ahead + len(value)) * 8 // 6
        form = encoded[first:last]
        yield from (form, form.translate(_URL_SAFE))
    whole = base64.b64encode(value)
    if len(whole) > _BASE64_LINE:
        for start in range(0, len(whole), _BASE64_LINE):
            yield whole[start : start + _BASE64_LINE].rstrip(b"=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _forms(value: str) -> Iterator[bytes]:
    raw = value.encode()
    yield raw
    yield from _base64_forms(raw)
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted.encode()
        yield re.sub(r"%[0-9A-F]{2}", lambda m: m.group().lower(), quoted).encode()
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode()
    yield html.escape(value).encode()


def patterns_of(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Every form of every secret that is to be masked; none holds a line break.

    A value of several lines is masked line by line, because a log is read by lines;
    its encoded forms as a whole too.
    """
    found: set[bytes] = set()
    for secret in secrets:
        for value in {secret, secret.strip(), *re.split(r"[\r\n]+", secret)}:
            if len(value) >= MIN_LENGTH:
                found.update(_forms(value))
    return tuple(
        sorted(
            (form for form in found if len(form) >= MIN_LENGTH and not re.search(rb"[\r\n]", form)),
            key=lambda form: (-len(form), form),
        )
    )


class Masker:
    """Masks one stream of bytes (one step's output), whatever its chunks are.

    The output does not depend on how the input was cut: overlapping forms are
    masked as one. It holds back less than the longest form.
    """

    def __init__(self, patterns: tuple[bytes, ...]) -> None:
        self._patterns = patterns
        self._by_first: dict[int, list[bytes]] = defaultdict(list)
        for pattern in patterns:
            self._by_first[pattern[0]].append(pattern)
        self._longest = max((len(pattern) for pattern in patterns), default=0)
        self._held = b""
        self._masked = 0
        """How many of the held bytes belong to a secret whose mask is already written."""

    def feed(self, chunk: bytes) -> bytes:
        """The masked text that is certain by now; the rest comes with a later call."""
        if not self._patterns:
            return chunk
        return self._mask(self._held + chunk, at_end=False)

    def flush(self) -> bytes:
        """What was held back: the stream is at an end."""
        return self._mask(self._held, at_end=True)

    def _mask(self, text: bytes, *, at_end: bool) -> bytes:
        spans = self._spans(text)
        cut = len(text) if at_end else self._first_open(text)
        pieces: list[bytes] = []
        position = 0
        for start, end in spans:
            if start >= cut:
                break
            pieces.append(text[position:start])
            if start > 0 or not self._masked:
                pieces.append(MASK)
            position = min(end, cut)
        pieces.append(text[position:cut])
        # A secret that goes on behind the cut has its mask already; its rest stays hidden.
        written = 0 if self._masked else -1
        self._masked = max(
            (end - cut for start, end in spans if (start < cut or start == written) and end > cut),
            default=0,
        )
        self._held = text[cut:]
        return b"".join(pieces)

    def _spans(self, text: bytes) -> list[tuple[int, int]]:
        """Where secrets stand, overlapping ones joined, in order."""
        found: list[tuple[int, int]] = [(0, self._masked)] if self._masked else []
        for pattern in self._patterns:
            start = text.find(pattern)
            while start >= 0:
                found.append((start, start + len(pattern)))
                start = text.find(pattern, start + 1)
        joined: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if joined and start < joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined

    def _first_open(self, text: bytes) -> int:
        """Where the first secret begins that the next bytes could complete."""
        for position in range(max(0, len(text) - self._longest + 1), len(text)):
            for pattern in self._by_first.get(text[position], ()):
                if len(pattern) > len(text) - position and pattern.startswith(text[position:]):
                    return position
        return len(text)


def mask_text(text: str, patterns: tuple[bytes, ...]) -> str:
    """One finished text, such as a message, with every secret masked."""
    masker = Masker(patterns)
    masked = masker.feed(text.encode(errors="replace")) + masker.flush()
    return masked.decode(errors="replace")
