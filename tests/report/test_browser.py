"""The report in Debian's Chromium: phone and desktop, light and dark; axe-core finds nothing, nothing is fetched.

`make test-report`. Pictures of all pages are left in build/report/pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.chromium import Browser, Screen, browser
from tests.unit.trainer.reporting.conftest import records, run, samples
from tests.unit.trainer.reporting.test_page import CASES, HOSTILE, page

SCREENS = {"phone": Screen(360, 740, 3, mobile=True), "desktop": Screen(1280, 800, 1, mobile=False)}
PICTURES = Path(__file__).parents[2] / "build" / "report" / "pictures"
LONG = "a-name-without-a-place-to-break-it-" * 8


def hostile() -> str:
    """A page on which names and messages are scripts, or do not fit."""
    known = records()
    sources = [{"name": name, "format": "alpaca", "path": f"/datasets/{name}"} for name in (HOSTILE, LONG)]
    return page(
        run(datasets=sources, evaluation=None),
        replace(known, prepared={**known.prepared, "warnings": [HOSTILE, LONG]}, samples=samples(HOSTILE + LONG)),
    )


PAGES: dict[str, Any] = {name: (lambda case=case: page(records_=case)) for name, case in CASES.items()}
PAGES["hostile"] = hostile


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM")
    if program is None:
        pytest.fail("no browser to test with: run `make test-report`", pytrace=False)
    with browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_a_person_can_read_it(chromium: Browser, tmp_path: Path, name: str, screen: str, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    chromium.show(path, SCREENS[screen], scheme)
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{name.replace(' ', '-')}-{screen}-{scheme}.png").write_bytes(chromium.picture())

    fetched = [event["params"]["request"]["url"] for event in chromium.events if event["method"] == _REQUEST]
    assert fetched == [path.as_uri()]
    complaints = [event for event in chromium.events if event["method"] in _COMPLAINTS]
    assert complaints == []
    width = SCREENS[screen].width
    assert chromium.run("document.documentElement.scrollWidth") <= width, "it has to be scrolled sideways"
    assert chromium.run(_OUTSIDE) == [], "texts beside the screen"
    assert chromium.run("getComputedStyle(document.body).fontSize") == "16px"

    chromium.run("for (const one of document.querySelectorAll('details')) one.open = true")
    chromium.run(Path(os.environ["AXE"]).read_text(encoding="utf-8"))
    cannot_tell = {"nonBmp"} if screen == "desktop" else {"nonBmp", "elmPartiallyObscured"}
    assert [one for one in chromium.run(_FOUND) if one["cannotTell"] not in cannot_tell] == []


_REQUEST = "Network.requestWillBeSent"
_COMPLAINTS = {"Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"}
# What is wrong, and where axe cannot tell whether it is: at a sign alone, such as ∞, and at a cell of a table that a
# phone has to scroll to, which it judges on the desktop.
_FOUND = """
axe.run().then(found => [...found.violations, ...found.incomplete].flatMap(rule => rule.nodes.map(node => ({
  rule: rule.id, element: node.html.slice(0, 200), cannotTell: node.any.map(check => check.data?.messageKey)[0] ?? null
}))))
"""
# Texts that begin or end beside the page, but for what is scrolled within its own box.
_OUTSIDE = """
[...document.querySelectorAll("body *")].filter(one => {
  const box = one.getBoundingClientRect();
  return !one.closest(".scroll") && one.textContent.trim() && box.width
    && (box.left < 0 || box.right > document.documentElement.clientWidth + 0.5);
}).map(one => one.outerHTML.slice(0, 200))
"""
