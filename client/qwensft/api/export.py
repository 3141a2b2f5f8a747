"""Writes what is generated from the models into a checkout of the repository: `python -m qwensft.api.export [--check]`.

The texts are made by `crd`, `reference` and `argument_page`; which file each becomes stands here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from . import argument_page, crd, reference

FILES: Final[Mapping[str, Callable[[], str]]] = {
    f"crds/{crd.FILE_NAME}": crd.manifest,
    "charts/qwen-sft-operator/templates/crd.yaml": crd.chart_template,
    "docs/reference.md": reference.page,
    "docs/arguments.md": argument_page.page,
}
"""Path within the repository -> what makes the text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the generated files. Returns the exit status: 1 if with --check a file differs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m qwensft.api.export", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="the checkout; default: here")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    options = parser.parse_args(arguments)
    return write({options.root / name: make() for name, make in FILES.items()}, check=options.check)


def write(texts: Mapping[Path, str], *, check: bool) -> int:
    """Write generated files that are not up to date, or with `check` only name them.

    Returns the exit status: 1 if one was named, else 0.
    """
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            sys.stderr.write(f"{path} is not up to date: run `make generate`\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
