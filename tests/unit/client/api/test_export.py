"""`python -m qwensft.api.export`: one command writes, and with --check compares, all that the models generate."""

from pathlib import Path

import pytest

from qwensft.api import export

REPOSITORY = Path(__file__).parents[4]


def test_the_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--check", "--root", str(REPOSITORY)]) == 0, capsys.readouterr().err


def test_a_check_names_each_stale_and_each_missing_file_and_writes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main(["--root", str(tmp_path)]) == 0
    stale, missing = tmp_path / "docs" / "reference.md", tmp_path / "docs" / "arguments.md"
    stale.write_text("stale", encoding="utf-8")
    missing.unlink()
    assert export.main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{path} is not up to date: run `make generate`" for path in (stale, missing)]
    assert stale.read_text(encoding="utf-8") == "stale"
    assert export.main(["--root", str(tmp_path)]) == 0
    assert export.main(["--check", "--root", str(tmp_path)]) == 0
