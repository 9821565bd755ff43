"""Secrets never reach a log, however a build's output is cut."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.masking import Masker, mask_text, patterns_of

SECRET = 'p@ss "w/ord+1&ü'


def masked(pieces: list[bytes], patterns: tuple[bytes, ...]) -> bytes:
    masker = Masker(patterns)
    return b"".join(masker.feed(piece) for piece in pieces) + masker.flush()


@given(
    secrets=st.lists(st.text("abé", min_size=4, max_size=7), max_size=3),
    text=st.text("abéc\n", max_size=60),
    cuts=st.lists(st.integers(0, 80)),
)
def test_the_output_does_not_depend_on_how_the_input_was_cut(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    patterns = tuple(sorted({secret.encode() for secret in secrets}))
    raw = text.encode()
    borders = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(borders)]
    out = masked(pieces, patterns)
    assert out == masked([raw], patterns)
    assert not any(pattern in out for pattern in patterns)


@given(st.text(min_size=4, max_size=40).filter(lambda s: len(s.strip()) >= 4 and "*" not in s))
def test_a_secret_a_byte_at_a_time_is_masked(secret: str) -> None:
    raw = f"before {secret} after".encode(errors="replace")
    out = masked([bytes([byte]) for byte in raw], patterns_of([raw[7:-6].decode()]))
    for line in secret.splitlines():
        if len(line) >= 4:
            assert line.encode(errors="replace") not in out


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
)
def test_every_common_form_is_masked(shown: str) -> None:
    assert mask_text(f"x{shown}y", patterns_of([SECRET])) == "x***y"


@pytest.mark.parametrize("ahead", [b"", b"x", b"xy", b"xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_masked_at_every_alignment(ahead: bytes, encode: object) -> None:
    assert callable(encode)
    shown = encode(ahead + SECRET.encode() + b"tail").decode()
    out = mask_text(shown, patterns_of([SECRET]))
    assert "***" in out
    assert len(out) < 16


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEabcdefgh\r\nijklmnop\n-----END KEY-----\n"
    out = mask_text(f"a\n{key}b", patterns_of([key]))
    assert "MIIE" not in out
    assert "ijklmnop" not in out


def test_a_long_secret_in_wrapped_base64_is_masked() -> None:
    secret = "0123456789" * 20
    out = mask_text(base64.encodebytes(secret.encode()).decode(), patterns_of([secret]))
    assert set(out.replace("***", "").strip()) <= set("=\n")


def test_short_values_are_left_alone() -> None:
    assert mask_text("a true abc", patterns_of(["abc", "", "\n"])) == "a true abc"


def test_an_endless_row_of_secrets_is_not_hoarded() -> None:
    masker = Masker((b"aaaa",))
    for _ in range(1000):
        masker.feed(b"a" * 100)
    assert len(masker._held) < 4
