"""Writes the project's version to where it stands: `python hack/version.py 0.3.0`, then `make generate manifests`.

Its place is `__version__` of the operator; `python hack/version.py` without a version writes that one to all others.
A test compares them (tests/unit/test_contracts.py).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PLACE = ("operator/qwensft_operator/__init__.py", r'^__version__ = "(.+)"$')
COPIES = (
    ("client/pyproject.toml", r'^version = "(.+)"$'),
    ("trainer-image/pyproject.toml", r'^version = "(.+)"$'),
    ("operator/pyproject.toml", r'^    "qwensft==(.+)",$'),
    ("charts/qwen-sft-operator/Chart.yaml", r"^version: (.+)$"),
    ("charts/qwen-sft-operator/Chart.yaml", r"^appVersion: (.+)$"),
    ("charts/qwen-sft-operator/values.yaml", r"^trainerImage: qwensft/trainer:(.+)$"),
)
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?")


def found(file: str, pattern: str) -> re.Match[str]:
    """Where the version stands in a file. Raises SystemExit unless it stands there once."""
    matches = list(re.finditer(pattern, (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE))
    if len(matches) != 1:
        raise SystemExit(f"{file} has {len(matches)} lines like {pattern}, not one; correct hack/version.py")
    return matches[0]


def main(arguments: list[str]) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", default=found(*PLACE)[1])
    version = parser.parse_args(arguments).version
    if not _VERSION.fullmatch(version):
        parser.error(f"{version} is no semantic version, such as 0.3.0 or 0.3.0-rc.1")
    for file, pattern in (PLACE, *COPIES):
        place = found(file, pattern)
        path = REPOSITORY / file
        path.write_text(place.string[: place.start(1)] + version + place.string[place.end(1) :], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
