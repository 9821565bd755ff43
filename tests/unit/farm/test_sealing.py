"""Sealed values: opened by the same key, by no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import Unavailable
from farm.sealing import Sealer

KEY = "k" * 32


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_a_sealed_value_opens_to_what_it_was(value: str) -> None:
    assert Sealer(KEY).open(Sealer(KEY).seal(value)) == value


def test_a_sealed_value_does_not_show_its_value_nor_that_two_are_equal() -> None:
    first, second = Sealer(KEY).seal("hunter2"), Sealer(KEY).seal("hunter2")
    assert "hunter2" not in first
    assert first != second


@pytest.mark.parametrize("key", ["l" * 32, "k" * 33, ""])
def test_another_key_opens_nothing_and_says_so(key: str) -> None:
    with pytest.raises(Unavailable, match="another FARM_SECRET_KEY") as refused:
        Sealer(key).open(Sealer(KEY).seal("hunter2"))
    assert refused.value.code == "wrong_secret_key"
    assert "hunter2" not in str(refused.value)


def test_a_value_that_was_tampered_with_does_not_open() -> None:
    sealed = Sealer(KEY).seal("hunter2")
    middle = len(sealed) // 2
    other = "A" if sealed[middle] != "A" else "B"
    with pytest.raises(Unavailable):
        Sealer(KEY).open(sealed[:middle] + other + sealed[middle + 1 :])


def test_what_was_never_sealed_does_not_open() -> None:
    with pytest.raises(Unavailable):
        Sealer(KEY).open("plain text")
