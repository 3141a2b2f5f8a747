"""The trainer image's torch, DeepSpeed and FFmpeg: what they load, what they refuse, how long they wait."""

from __future__ import annotations

from typing import Any

import pytest
from quickstart.pods import printed_json, run_script
from quickstart.setup import Ready

from .runs import SCRIPTS


@pytest.fixture(scope="module")
def found(ready: Ready, namespace: str) -> dict[str, Any]:
    printed = run_script(
        ready.kubectl, namespace, SCRIPTS / "try_libraries.py", [], image=ready.images.trainer, claims={}
    )
    return printed_json(printed)


def test_no_checkpoint_runs_code(found: dict[str, Any]) -> None:
    ran = found["code"].pop("ran")
    assert ran == "False"
    assert len(found["code"]) == 3
    assert "nothing" not in found["code"].values()


def test_checkpoints_of_deepspeed_are_loaded_all_the_same(found: dict[str, Any]) -> None:
    assert found["deepspeed"] == {"1": True, "2": True, "3": True}


def test_the_groups_that_deepspeed_makes_wait_as_long_as_was_asked_for(found: dict[str, Any]) -> None:
    assert len(found["waits"]) > 1
    assert set(found["waits"]) == {9000.0}


def test_real_videos_pass_and_a_playlist_does_not(found: dict[str, Any]) -> None:
    videos = found["videos"]
    for name in ("clip.mp4", "clip.mkv", "clip.avi", "clip.ts", "clip.mpg", "clip.flv"):
        assert videos[name] == f".{name.rpartition('.')[2]}"
    assert videos["half.mp4"].startswith("video 'half.mp4' cannot be decoded")
    assert "/" not in videos["half.mp4"]
    assert videos["list.mp4"].startswith("video 'list.mp4' is in none of the formats")
    assert videos["call.ts"].startswith("video 'call.ts' cannot be decoded as ts, as which it begins")
