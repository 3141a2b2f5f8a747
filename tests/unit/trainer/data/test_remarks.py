"""Each kind of remark is told once, with how many rows it is about and where the first ones are."""

from __future__ import annotations

from qwensft_trainer.data.remarks import Remarks


def test_rows_are_counted_and_the_first_places_named() -> None:
    remarks = Remarks()
    for number in range(1, 6):
        remarks.add(f"file a.json, row {number}", ["are odd"] if number != 2 else [])
    remarks.add("file a.json, row 6", ["are empty", "are odd"])
    assert remarks.warnings("support", 6) == [
        "dataset support: 1 of 6 rows are empty (file a.json, row 6)",
        "dataset support: 5 of 6 rows are odd (file a.json, row 1; file a.json, row 3; file a.json, row 4; and 2 more)",
    ]
