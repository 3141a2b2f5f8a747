"""Where the line on a run is shown, and how."""

from __future__ import annotations

import io
import sys

import pytest

from qwensft.client import progress


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "term", "kind"),
    [
        (Tty(), "xterm", progress.Terminal),
        (Tty(), "dumb", progress.Log),
        (io.StringIO(), "xterm", progress.Log),
    ],
)
def test_a_line_is_rewritten_where_something_can_rewrite_it(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, term: str, kind: type
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    shown = progress.display()
    assert type(shown) is kind
    shown.show(progress.transferred("Sending", 5, 10))
    shown.show(progress.transferred("Sending", 10, 10))
    shown.close()
    text = stream.getvalue()
    assert text.endswith("\n")
    assert ("\x1b" in text) is (kind is progress.Terminal)


def test_a_log_has_the_first_and_the_last_line_of_each_phase() -> None:
    stream = io.StringIO()
    log = progress.Log(stream)
    for name in ("config.json", "model.safetensors"):
        for done in (2, 5, 9, 10):
            log.show(progress.transferred(name, done, 10))
            log.show(progress.transferred(name, done, 10))
    log.close()
    log.close()
    shares = [(line.split()[0], line.split()[2]) for line in stream.getvalue().splitlines()]
    assert shares == [
        ("config.json", "20"),
        ("config.json", "100"),
        ("model.safetensors", "20"),
        ("model.safetensors", "100"),
    ]


def test_what_is_empty_is_there() -> None:
    assert progress.transferred("x", 0, 0).split()[2:] == ["100", "%", "0", "B", "of", "0", "B"]
