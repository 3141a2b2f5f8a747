"""Writes a release's images into the chart, by digest: `python hack/release_chart.py --registry R --operator D ...`.

Only the published chart has them: in the repository the values stay names without a registry (ADR 0166).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

VALUES = Path(__file__).resolve().parents[1] / "charts" / "qwen-sft-operator" / "values.yaml"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def released(text: str, registry: str, operator: str, trainer: str) -> str:
    """Return values.yaml with both images by their digests; its comments stay.

    Raises:
        ValueError: a digest is none, or a line to be changed is not there exactly once.
    """
    for digest in (operator, trainer):
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is no digest such as sha256:… with 64 digits")
    text = _line(text, r"  repository: qwensft/operator", f"  repository: {registry}/operator")
    text = _line(text, r'  digest: ""', f"  digest: {operator}")
    return _line(text, r"trainerImage: qwensft/trainer:\S+", f"trainerImage: {registry}/trainer@{trainer}")


def _line(text: str, old: str, new: str) -> str:
    changed, count = re.subn(rf"^{old}$", new, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"values.yaml has {count} lines like {old!r}, expected one: adapt hack/release_chart.py")
    return changed


def main() -> None:
    """Write values.yaml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("registry", "operator", "trainer"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    text = released(VALUES.read_text(encoding="utf-8"), given.registry, given.operator, given.trainer)
    VALUES.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
