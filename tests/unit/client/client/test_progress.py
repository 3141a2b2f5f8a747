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


def test_what_is_empty_is_there() -> None:
    assert progress.transferred("x", 0, 0).split()[2:] == ["100", "%", "0", "B", "of", "0", "B"]
