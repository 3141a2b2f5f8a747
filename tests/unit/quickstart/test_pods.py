"""What a script in a pod printed is found in a log that holds both streams."""

from __future__ import annotations

import pytest
from quickstart.pods import printed_json


def test_the_result_is_found_before_what_a_library_wrote_after_it() -> None:
    assert printed_json('loading\n{"a": 1}\n{"b": {"c": 2}}\nmoov atom not found\n') == {"b": {"c": 2}}


def test_a_log_without_a_result_is_shown() -> None:
    with pytest.raises(ValueError, match="Killed"):
        printed_json("loading\nKilled\n")
