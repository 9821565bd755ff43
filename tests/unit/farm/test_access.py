"""Tokens: their form, their checksum and what their scopes cover."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import access
from farm.access import Principal, hash_of, new_token, well_formed
from farm.errors import Forbidden
from farm.model import Token

FORM = re.compile(r"farm_[0-9A-Za-z]{36}")


def test_a_token_has_the_form_that_secret_scanners_look_for() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    assert all(FORM.fullmatch(token) and well_formed(token) for token in tokens)


@given(
    st.integers(min_value=5, max_value=40),
    st.sampled_from(string.digits + string.ascii_letters),
)
def test_a_token_with_one_wrong_letter_is_not_well_formed(place: int, letter: str) -> None:
    token = new_token()
    wrong = token[:place] + letter + token[place + 1 :]
    assert well_formed(wrong) is (wrong == token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "farm_",
        "x" * 41,
        "FARM_" + "0" * 36,
        "farm_" + "0" * 36,
        "farm_" + "é" * 36,
        "\x00" * 41,
    ],
)
def test_what_is_no_token_is_not_well_formed(text: str) -> None:
    assert not well_formed(text)


def test_a_token_longer_or_shorter_by_one_is_not_well_formed() -> None:
    token = new_token()
    assert not well_formed(token[:-1])
    assert not well_formed(token + "0")
    assert not well_formed(" " + token[1:])


def test_what_is_stored_of_a_token_says_nothing_about_it() -> None:
    token = new_token()
    assert re.fullmatch(r"[0-9a-f]{64}", hash_of(token))
    assert token[5:] not in hash_of(token)


@pytest.mark.parametrize(
    ("held", "covered"),
    [
        (["read"], {"read"}),
        (["build"], {"read", "build"}),
        (["admin"], {"read", "build", "admin"}),
        (["worker"], {"worker"}),
        (["build", "read"], {"read", "build"}),
        ([], set()),
    ],
)
def test_a_scope_covers_the_lesser_ones_and_never_the_workers(
    held: list[str], covered: set[str]
) -> None:
    principal = access.principal_of(Token(id=1, name="ada", scopes=held))
    assert {scope for scope in access.SCOPES if principal.may(scope)} == covered


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(Forbidden, match="scope admin"):
        Principal(1, "ada", frozenset({"read"})).require("admin")
