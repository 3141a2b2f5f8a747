"""A release: a tag must be the chart's version, the published chart has the images by digest, actions are pinned."""

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "qwen-sft-operator"
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
OPERATOR, TRAINER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("release_chart", REPOSITORY / "hack" / "release_chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def release_version(tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "hack" / "release-version", tag, "Some-Team/Fork"], capture_output=True, text=True, check=False
    )


def test_a_tag_that_is_the_charts_version_gives_version_and_registry() -> None:
    done = release_version(f"v{VERSION}")
    assert done.stdout.splitlines() == [f"version={VERSION}", "registry=ghcr.io/some-team/fork"]
    assert done.returncode == 0


def test_another_tag_is_refused_with_what_to_change() -> None:
    done = release_version("v99.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the tag is v99.0.0" in done.stderr
    assert "Chart.yaml" in done.stderr


def test_the_published_chart_has_both_images_by_digest_and_nothing_else_changed() -> None:
    before = yaml.safe_load(VALUES)
    after = yaml.safe_load(script().released(VALUES, "ghcr.io/team/fork", OPERATOR, TRAINER))
    assert after["image"] == before["image"] | {"repository": "ghcr.io/team/fork/operator", "digest": OPERATOR}
    assert after["trainerImage"] == f"ghcr.io/team/fork/trainer@{TRAINER}"
    assert after | {"image": None, "trainerImage": None} == before | {"image": None, "trainerImage": None}


def test_a_digest_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'latest' is no digest"):
        script().released(VALUES, "ghcr.io/team/fork", OPERATOR, "latest")


def test_values_that_have_changed_their_form_are_refused() -> None:
    with pytest.raises(ValueError, match="adapt hack/release_chart"):
        script().released(VALUES.replace("trainerImage:", "image2:"), "ghcr.io/team/fork", OPERATOR, TRAINER)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_actions_by_commit_and_asks_for_rights_job_by_job(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} without its version beside it"
    assert yaml.safe_load(text)["permissions"] == {}


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "trainer-image/Dockerfile"])
def test_an_image_says_where_it_comes_from(dockerfile: str) -> None:
    text = (REPOSITORY / dockerfile).read_text(encoding="utf-8")
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", text))
    assert labels == {"title", "description", "licenses", "source", "version", "revision"}
    given = set(re.findall(r'--build-arg "(\w+)=', (REPOSITORY / ".github/workflows/release.yml").read_text()))
    assert given == {"SOURCE", "VERSION", "REVISION"}
    assert given <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
