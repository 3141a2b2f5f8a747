"""What the chart says of itself: versions that agree, and what Artifact Hub shows."""

from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import KIND, parse_job

CHART = Path(__file__).parents[3] / "charts" / "qwen-sft-operator"
METADATA: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
SHOWN: dict[str, str] = {name.removeprefix("artifacthub.io/"): text for name, text in METADATA["annotations"].items()}


def test_the_default_images_are_of_the_version_of_the_operator() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["trainerImage"] == f"qwensft/trainer:{METADATA['appVersion']}"
    assert values["image"]["tag"] == ""


def test_the_kind_is_shown_as_the_definition_has_it() -> None:
    (shown,) = yaml.safe_load(SHOWN["crds"])
    definition = yaml.safe_load((CHART.parents[1] / "crds" / "qwensft.io_qwensftjobs.yaml").read_text())
    assert (shown["name"], shown["kind"]) == (definition["metadata"]["name"], KIND)
    assert shown["version"] in [version["name"] for version in definition["spec"]["versions"]]


def test_the_example_that_is_shown_is_a_job() -> None:
    (example,) = yaml.safe_load(SHOWN["crdsExamples"])
    assert parse_job(example | {"metadata": {**example["metadata"], "namespace": "team", "uid": "1"}}).spec.model.name
