"""What is no problem but should be told of a dataset's rows: how many rows, and where the first ones are."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN_PLACES = 3


class Remarks:
    """Counts remarks of one dataset. A remark is what follows "3 of 10 rows ..."."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, place: str, remarks: Iterable[str]) -> None:
        """Count the remarks of one row; `place` names its file and number."""
        for remark in remarks:
            self._counts[remark] = self._counts.get(remark, 0) + 1
            places = self._places.setdefault(remark, [])
            if len(places) < SHOWN_PLACES:
                places.append(place)

    def join(self, later: Remarks) -> None:
        """Add what was counted of later rows."""
        for remark, count in later._counts.items():
            self._counts[remark] = self._counts.get(remark, 0) + count
            places = self._places.get(remark, []) + later._places[remark]
            self._places[remark] = places[:SHOWN_PLACES]

    def warnings(self, dataset: str, rows: int) -> list[str]:
        """One sentence for each remark."""
        return [
            f"dataset {dataset}: {count} of {rows} rows {remark} ({self._where(remark)})"
            for remark, count in sorted(self._counts.items())
        ]

    def _where(self, remark: str) -> str:
        more = self._counts[remark] - len(self._places[remark])
        return "; ".join(self._places[remark]) + (f"; and {more} more" if more else "")
