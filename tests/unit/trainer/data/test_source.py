"""Rows come from mounted files, hubs and URLs; what has to be fetched is fetched once, and errors name the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hubs import files as web
from tests.hubs.fixtures import HUBS, RunningHub, running

from qwensft_trainer.contract.errors import EXIT_PERMANENT, StageError
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.source import Source

from ..conftest import Scene
from ..waiting import eventually

ROW = {"instruction": "<image>What?", "output": "A cat.", "images": ["images/2.png"]}


def test_rows_that_a_link_finds_outside_of_their_volume_are_refused(scene: Scene) -> None:
    path = scene.add_dataset("tickets", [ROW])
    secret = scene.root / "token"
    secret.write_text('{"instruction": "a", "output": "hf_token"}')
    path.unlink()
    path.symlink_to(secret)
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidDataset", EXIT_PERMANENT)
    assert "dataset tickets: data.json is a symbolic link that leads out of its volume" in error.message


def test_rows_that_a_link_finds_in_their_volume_are_read(scene: Scene) -> None:
    path = scene.add_dataset("tickets", [ROW], file_name="..data/data.json")
    (path.parent.parent / "data.json").symlink_to("..data/data.json")  # as the kubelet lays out a ConfigMap
    scene.document["datasets"][0]["path"] = str(path.parent.parent / "data.json")
    assert provided(scene).names == ("data.json",)


@pytest.fixture(params=["huggingFace", "modelScope"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope-cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    repository = tmp_path / "served" / "datasets" / "acme" / "tickets"
    (repository / "images").mkdir(parents=True)
    for split, count in (("train", 3), ("test", 1)):
        (repository / f"{split}.jsonl").write_text("".join(json.dumps(ROW) + "\n" for _ in range(count)))
    for number in range(4):
        (repository / "images" / f"{number}.png").write_bytes(b"image %d" % number)
    (repository / "README.md").write_text("# Tickets\n")
    with running(HUBS[name], tmp_path / "served") as server:
        yield server


def add(scene: Scene, **download: Any) -> None:
    scene.document["datasets"] = [{"name": "tickets", "format": "alpaca", "download": download}]


def provided(scene: Scene) -> Source:
    return dataset_source.provide(scene.run)["tickets"]


def failure(scene: Scene) -> StageError:
    with pytest.raises(StageError) as caught:
        provided(scene)
    return caught.value


def test_a_split_of_a_repository_is_fetched_and_nothing_else(scene: Scene, served: RunningHub, name: str) -> None:
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url)
    source = provided(scene)
    assert source.names == ("train.jsonl",)
    assert source.root.is_relative_to(scene.run_directory / "data" / "download" / "tickets")
    assert len((source.root / "train.jsonl").read_text().splitlines()) == 3
    assert not served.asked_for("test.jsonl")
    assert not served.asked_for(".png")


def test_a_readme_of_any_size_is_not_looked_into(
    scene: Scene, served: RunningHub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_source, "_LARGEST_DESCRIPTION", 5)
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url)
    assert "its README.md has 0 MiB, too many to look into: set spec.datasets[tickets]" in failure(scene).message
    assert not served.asked_for("README.md")


def test_a_second_attempt_fetches_nothing_again(scene: Scene, served: RunningHub, name: str) -> None:
    add(scene, hub=name, repo="acme/tickets", split="test", endpoint=served.url)
    assert provided(scene) is not None
    assert provided(scene).names == ("test.jsonl",)
    eventually(lambda: len(served.asked_for("test.jsonl")) == 1)


def test_another_state_of_the_repository_is_kept_apart(scene: Scene, served: RunningHub, name: str) -> None:
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url)
    before = provided(scene).root
    changed = served.root / "datasets" / "acme" / "tickets" / "train.jsonl"
    changed.write_text(changed.read_text().replace("cat", "dog"))
    after = provided(scene).root
    assert before != after
    assert "A dog." in (after / "train.jsonl").read_text()


def test_one_file_of_a_repository_can_be_named(scene: Scene, served: RunningHub, name: str) -> None:
    add(scene, hub=name, repo="acme/tickets", path="test.jsonl", endpoint=served.url)
    assert provided(scene).names == ("test.jsonl",)
    add(scene, hub=name, repo="acme/tickets", path="dev.jsonl", endpoint=served.url)
    assert failure(scene).message == (
        "acme/tickets has no file dev.jsonl (it has test.jsonl, train.jsonl): correct "
        f"spec.datasets[tickets].source.{name}.path, or remove it to take a split."
    )


def test_images_are_fetched_when_a_row_names_them_and_their_neighbours_with_them(
    scene: Scene, served: RunningHub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_source, "_FILES_AT_A_TIME", 2)
    add(scene, hub=name, repo="acme/tickets", path="train.jsonl", endpoint=served.url)
    source = provided(scene)
    assert source.locate("images/2.png", beside="train.jsonl").read_bytes() == b"image 2"
    assert source.locate("images/3.png", beside="train.jsonl").read_bytes() == b"image 3"
    assert not served.asked_for("1.png")
    eventually(lambda: len(served.asked_for("3.png")) == 1)
    with pytest.raises(RowProblem, match=r"there is no file 'images/9.png' beside train.jsonl"):
        source.locate("images/9.png", beside="train.jsonl")


def test_a_private_repository_is_read_with_the_secrets_token(
    scene: Scene, served: RunningHub, name: str, tmp_path: Path
) -> None:
    (served.root / "datasets" / "acme" / "tickets" / ".private").write_text("good-token")
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url)
    error = failure(scene)
    assert error.reason == "InvalidDataset"
    assert f"give a token in spec.datasets[tickets].source.{name}.tokenSecretRef" in error.message
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_text("good-token\n")
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url, credentials=str(tmp_path / "secret"))
    assert provided(scene).names == ("train.jsonl",)


def test_a_token_that_no_header_can_carry_is_refused_before_the_hub_is_asked(
    scene: Scene, served: RunningHub, name: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_text("first-half\nsecond-half")
    add(scene, hub=name, repo="acme/tickets", endpoint=served.url, credentials=str(tmp_path / "secret"))
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert f"spec.datasets[tickets].source.{name}.tokenSecretRef" in error.message
    assert "half" not in error.message
    assert served.requests == []


def test_a_repository_without_rows_is_refused(scene: Scene, served: RunningHub, name: str) -> None:
    repository = served.root / "datasets" / "acme" / "pictures"
    repository.mkdir()
    (repository / "cat.png").write_bytes(b"image")
    add(scene, hub=name, repo="acme/pictures", endpoint=served.url)
    assert "cat.png is none of the file types that are read (.json, .jsonl" in failure(scene).message


def test_a_url_is_fetched_once_and_images_beside_it_when_named(scene: Scene, tmp_path: Path) -> None:
    site = tmp_path / "site" / "sft"
    (site / "images").mkdir(parents=True)
    (site / "my rows.jsonl").write_text(json.dumps(ROW))
    (site / "images" / "2.png").write_bytes(b"image 2")
    with running(web, tmp_path / "site") as server:
        add(scene, hub="url", url=f"{server.url}/sft/my%20rows.jsonl?version=3")
        provided(scene)
        source = provided(scene)
        assert source.names == ("my rows.jsonl",)
        assert json.loads((source.root / "my rows.jsonl").read_text()) == ROW
        eventually(lambda: len(server.asked_for("rows.jsonl")) == 1)
        assert source.locate("images/2.png", beside="my rows.jsonl").read_bytes() == b"image 2"
        with pytest.raises(RowProblem, match="there is no file"):
            source.locate("images/3.png", beside="my rows.jsonl")
        (site / "other.jsonl").write_text(json.dumps(ROW) * 2)
        add(scene, hub="url", url=f"{server.url}/sft/other.jsonl")
        assert provided(scene).names == ("other.jsonl",)


def test_an_image_that_is_not_to_be_had_is_told_with_what_is_in_between(scene: Scene, tmp_path: Path) -> None:
    site = tmp_path / "site"
    for folder, told in (("closed", ".authorization"), ("node", ".redirect")):
        (site / folder).mkdir(parents=True)
        (site / folder / told).write_text("http://169.254.169.254/latest/meta-data/")
        (site / folder / "1.png").write_bytes(b"image")
    (site / "rows.jsonl").write_text(json.dumps(ROW))
    with running(web, site) as server:
        add(scene, hub="url", url=f"{server.url}/rows.jsonl")
        source = provided(scene)
        for folder, told in (("closed", "is denied: name a Secret"), ("node", "leads to 169.254.169.254")):
            with pytest.raises(RowProblem) as caught:
                source.locate(f"{folder}/1.png", beside="rows.jsonl")
            assert f"'{folder}/1.png' is not to be had: " in str(caught.value)
            assert told in str(caught.value)
    assert not [path for path in source.root.rglob("*.png") if path.is_file()]


def test_what_one_place_denies_the_other_may_have(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()

    def denied(name: str) -> bool:
        raise RowProblem(f"{name} is denied")

    source = Source(tmp_path, ("deep/rows.json",), denied)
    assert source.locate("1.png", beside="deep/rows.json") == tmp_path / "1.png"
    with pytest.raises(RowProblem, match=r"^2.png is denied"):
        source.locate("2.png", beside="deep/rows.json")


def test_files_beside_another_address_are_kept_apart(scene: Scene, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "site" / folder).mkdir(parents=True)
        (tmp_path / "site" / folder / "rows.json").write_text(json.dumps([ROW]))
        (tmp_path / "site" / folder / "2.png").write_text(folder)
    with running(web, tmp_path / "site") as server:
        for folder in ("a", "b"):
            add(scene, hub="url", url=f"{server.url}/{folder}/rows.json")
            assert provided(scene).locate("2.png", beside="rows.json").read_text() == folder


@pytest.mark.parametrize("written", ["..%2F..%2Fescaped.json", "%2Ftmp%2Fescaped.json", "..", "a%2F.."])
def test_no_address_leads_out_of_the_directory_of_downloads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    targets: list[Path] = []
    monkeypatch.setattr("qwensft_trainer.data.url.Address.fetch", lambda _, __, target, **___: targets.append(target))
    add(scene, hub="url", url=f"https://x.example/sft/{written}")
    name = "escaped.json" if "escaped" in written else "data"
    assert provided(scene).names == (name,)
    downloads = scene.run_directory / "data" / "download" / "tickets"
    assert (targets[0].name, targets[0].parent.parent) == (name, downloads)


def test_errors_of_evaluation_datasets_name_their_own_field(scene: Scene, tmp_path: Path) -> None:
    with running(web, tmp_path) as server:
        lost = {"name": "quiz", "format": "alpaca", "download": {"hub": "url", "url": f"{server.url}/lost.json"}}
        scene.document["evaluation"] = {"datasets": [lost]}
        message = failure(scene).message
    assert message.endswith("correct spec.evaluation.datasets[quiz].source.url.url.")


@pytest.mark.parametrize("wrong", ["/etc/passwd", "../secret/x.png", "a/../../x.png"])
def test_rows_reach_no_file_outside_of_their_source(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "x.png").write_bytes(b"x")
    source = Source(tmp_path / "root", ("rows.json",))
    with pytest.raises(RowProblem, match=r"lies outside of|is an absolute path"):
        source.locate(wrong, beside="rows.json")


def test_a_symbolic_link_leads_to_no_file_outside_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "root" / "..data").mkdir(parents=True)
    (tmp_path / "x.png").touch()
    (tmp_path / "root" / "..data" / "a.png").touch()
    (tmp_path / "root" / "out.png").symlink_to(tmp_path / "x.png")
    (tmp_path / "root" / "a.png").symlink_to("..data/a.png")  # as the kubelet mounts a ConfigMap
    source = Source(tmp_path / "root", ("rows.json",))
    assert source.locate("a.png", beside="rows.json") == tmp_path / "root" / "a.png"
    with pytest.raises(RowProblem, match=r"'out\.png' lies outside of the dataset's source"):
        source.locate("out.png", beside="rows.json")


def test_a_missing_file_of_a_neighbouring_directory_is_missing_and_not_outside(tmp_path: Path) -> None:
    source = Source(tmp_path, ("deep/rows.json",))
    with pytest.raises(RowProblem, match=r"there is no file '\.\./b\.png' beside deep/rows\.json"):
        source.locate("../b.png", beside="deep/rows.json")


@pytest.mark.parametrize("text", ["iVBORw0KGgo" * 1000, "x" * 256, "a\0b", "\ud800", "ä" * 200])
def test_what_is_no_name_of_a_file_is_told_shortly(tmp_path: Path, text: str) -> None:
    source = Source(tmp_path, ("rows.json",), lambda _: pytest.fail("nobody is asked for it"))
    with pytest.raises(RowProblem, match=r"is no name of a file; an image itself is written as data:") as caught:
        source.locate(text, beside="rows.json")
    assert len(str(caught.value)) < 200


def test_a_name_is_relative_to_the_data_file_or_to_the_source(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for path in ("deep/a.png", "b.png"):
        (tmp_path / path).touch()
    source = Source(tmp_path, ("deep/rows.json",))
    assert source.locate("a.png", beside="deep/rows.json") == tmp_path / "deep" / "a.png"
    assert source.locate("b.png", beside="deep/rows.json") == tmp_path / "b.png"
    assert source.locate("../b.png", beside="deep/rows.json") == tmp_path / "b.png"
