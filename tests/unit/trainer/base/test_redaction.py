"""Known secrets are hidden in every spelling, and nothing that moves a terminal's cursor gets out."""

from __future__ import annotations

import base64
import json
import logging
import sys
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft_trainer.base.redaction import HIDDEN, Secrets, clean, clean_all, clean_output, secrets

TOKEN = "hf_Zm9v/YmFy+c2Vj=="  # noqa: S105
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def hidden(text: str, *values: str) -> str:
    known = Secrets()
    for value in values:
        known.add(value)
    return known.remove_from(text)


@pytest.mark.parametrize(
    "text",
    [
        f"Illegal header value b'Bearer {TOKEN}\\n'",
        f"https://user:{quote(TOKEN, safe='')}@hub.example/x",
        json.dumps({"token": TOKEN}),
        repr({"token": TOKEN + "\n"}),
        *(f"Basic {base64.b64encode(f'{user}:{TOKEN}'.encode()).decode()}" for user in ("a", "ab", "abc")),
        *(base64.urlsafe_b64encode(f"{user}{TOKEN}{user}".encode()).decode() for user in ("", "a", "ab", "abc")),
    ],
)
def test_a_secret_is_hidden_in_its_usual_spellings(text: str) -> None:
    shown = hidden(text, TOKEN)
    assert HIDDEN in shown
    assert TOKEN[:9] not in shown
    assert base64.b64encode(TOKEN.encode()).decode()[4:-8] not in shown


@given(secret=PRINTABLE, before=st.text(max_size=5), after=st.text(max_size=5))
def test_no_secret_is_left_wherever_it_stands(secret: str, before: str, after: str) -> None:
    if secret in HIDDEN or secret in before + HIDDEN + after:
        return
    assert secret not in hidden(before + secret + after, secret)
    packed = base64.b64encode((before + secret + after).encode(errors="replace")).decode()
    assert HIDDEN in hidden(packed, secret)


def test_the_end_of_line_that_a_secret_came_with_does_not_matter() -> None:
    assert hidden(f"token {TOKEN}!", f"{TOKEN}\n") == f"token {HIDDEN}!"


def test_each_line_of_a_private_key_is_hidden() -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQEF", "AASCBKcwggSjAgEAAoIBAQC7VJTU", "-----END"]
    key = "\n".join(lines)
    shown = hidden(f"bad key: MIIEvQIBADANBgkqhkiG9w0BAQEF, {key!r}", key)
    assert "MIIE" not in shown
    assert "AASC" not in shown


def test_the_longer_one_of_two_secrets_is_hidden_whole() -> None:
    assert hidden("token-of-team-a", "token-of-", "token-of-team-a") == HIDDEN


def test_a_short_value_would_mangle_what_is_no_secret() -> None:
    assert hidden("the production volume", "prod", "", " \n") == "the production volume"


def test_control_characters_are_written_out() -> None:
    assert clean("a\x1b[31mred\x07\x00\x7f\x9b2J\tb\r\nc\rd") == "a\\x1b[31mred\\x07\\x00\\x7f\\x9b2J\tb\nc\nd"
    assert clean("reads \u202eupside down\u202c") == "reads \\u202eupside down\\u202c"


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_whatever_was_cleaned_can_be_shown_and_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert once.encode().decode() == once
    assert not any(ord(character) < 32 and character not in "\t\n" for character in once)
    assert clean(once) == once


def test_texts_inside_of_values_are_cleaned() -> None:
    secrets.add(TOKEN)
    assert clean_all({"a": [TOKEN, {"b": "\x1b"}], "c": 1, "d": None}) == {
        "a": [HIDDEN, {"b": "\\x1b"}],
        "c": 1,
        "d": None,
    }


def test_all_that_a_process_prints_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    secrets.add(TOKEN)
    with clean_output():
        print("token", TOKEN, "end")  # noqa: T201
        sys.stdout.write(TOKEN[:6])
        sys.stdout.write(TOKEN[6:] + "\n")
        print(TOKEN, "\x1b[2J", file=sys.stderr, end="")  # noqa: T201
        logger = logging.Logger("library")
        logger.addHandler(logging.StreamHandler())
        logger.warning("sent %s", TOKEN)
        try:
            raise ValueError(f"Illegal header value {TOKEN!r}") from KeyError(TOKEN)
        except ValueError:
            traceback.print_exc()
        assert sys.stdout.isatty() is False
    out, err = capsys.readouterr()
    assert out == f"token {HIDDEN} end\n{HIDDEN}\n"
    assert err.count(HIDDEN) == 4
    assert TOKEN not in err
    assert "\x1b" not in err
