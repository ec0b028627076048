"""The redactor: no secret comes through, in any of the spellings in which secrets travel."""

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.redaction import MASK, Redactor

CANARY = "canary/7f+3a=b9 e&1?zz"


@pytest.mark.parametrize(
    "spelling",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe=""),
        quote_plus(CANARY),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode(),
    ],
)
def test_a_known_secret_is_masked_in_every_spelling(spelling: str) -> None:
    """Raw, URL-encoded and base64 are all caught, and the text around them stays."""
    text = Redactor([CANARY])(f"before {spelling} after")
    assert spelling not in text
    assert MASK in text
    assert text.startswith("before ")
    assert text.endswith(" after")


@given(before=st.binary(max_size=8), after=st.binary(max_size=8))
def test_a_secret_inside_a_longer_base64_text_is_masked(before: bytes, after: bytes) -> None:
    """Whatever stands before and after it, the part that decodes to the secret is gone."""
    whole = base64.b64encode(before + CANARY.encode() + after).decode()
    assert MASK in Redactor([CANARY])(whole)


@pytest.mark.parametrize(
    "key",
    [
        "1234567890:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "ghp_abcdefghijklmnopqrstuvwx",
        "AKIAIOSFODNN7EXAMPLE",
        "AIza" + "SyD-0123456789abcdefghijklmnopqrst_"[:35],
        "sk-ant-api03-0123456789abcdef",
    ],
)
def test_a_secret_that_nobody_told_us_is_known_by_its_shape(key: str) -> None:
    """The well-known kinds of keys are masked without being named."""
    assert Redactor()(f"https://host/bot{key} {key}").endswith(MASK)
    assert key not in Redactor()(f"token {key}!")


def test_ordinary_text_is_left_alone() -> None:
    """Ids, digests and words are no secrets, and a value too short to be one blanks nothing."""
    text = "sha256:" + "0f" * 32 + " 2f1c7f0e-1111-4222-8333-944455556666 autonous/worker:0123456789ab ok"
    assert Redactor(["ok", "", "work"])(text) == text


def test_the_longer_of_two_secrets_goes_first() -> None:
    """A secret that begins with another leaves no tail behind."""
    assert Redactor(["secret-one", "secret-one-and-more"])("secret-one-and-more") == MASK


def test_deep_reaches_every_string() -> None:
    """Lists, tuples and dictionaries are gone through; what is no text stays what it is."""
    value = {"a": [CANARY, {"b": (CANARY, 7, None, True)}], "c": 1.5}
    assert Redactor([CANARY]).deep(value) == {"a": [MASK, {"b": [MASK, 7, None, True]}], "c": 1.5}


def test_deep_reaches_the_names_too() -> None:
    """A secret is one as a key, too: what a model makes up as an argument's name is written into events."""
    assert Redactor([CANARY]).deep({f"x {CANARY}": 1}) == {f"x {MASK}": 1}
