"""Every object of five typical runs, word for word; see the difference in review before you update it.

`UPDATE_GOLDEN=1 pytest tests/unit/render` writes the files anew.
"""

import os
from pathlib import Path

import pytest
import yaml

from .jobs import SPECS, job, manifests

GOLDEN = Path(__file__).parent / "golden"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and nothing as an alias, as a person would."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


@pytest.mark.parametrize("case", SPECS)
def test_the_manifests_of_a_typical_run(case: str) -> None:
    rendered = yaml.dump_all(manifests(job(case)), Dumper=_Dumper, sort_keys=False, width=120)
    file = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(rendered, encoding="utf-8")
    assert rendered == file.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(SPECS)
