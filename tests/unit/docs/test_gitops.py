"""docs/gitops.md: what it shows can be applied, and says what the files say that are tested."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import parse_job

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "gitops.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def documents(kind: str) -> list[dict[str, Any]]:
    return [d for block in BLOCKS for d in yaml.safe_load_all(block) if d.get("kind") == kind]


def test_every_run_on_the_page_is_valid() -> None:
    runs = documents("QwenSFTJob")
    assert runs
    for run in runs:
        run["metadata"] |= {"namespace": "team", "uid": "0", "generation": 1}
        parse_job(run)


def test_the_pieces_of_a_run_on_the_page_are_fields_of_it() -> None:
    (run,) = documents("QwenSFTJob")
    run["metadata"] |= {"namespace": "team", "uid": "0", "generation": 1}
    (piece,) = [d["spec"] for block in BLOCKS for d in yaml.safe_load_all(block) if "runPolicy" in d.get("spec", {})]
    patches = [json.loads(patch) for patch in re.findall(r"-p '(.*?)'", PAGE)]
    assert patches
    for spec in (piece, *(patch["spec"] for patch in patches)):
        parse_job(run | {"spec": run["spec"] | spec})


def test_the_example_for_flux_is_the_one_that_is_tested() -> None:
    shown = documents("Kustomization")[0]
    assert shown == yaml.safe_load((REPOSITORY / "gitops" / "flux" / "kustomization.yaml").read_text())


def test_what_serves_and_what_evaluates_reads_what_the_run_writes() -> None:
    storage = documents("QwenSFTJob")[0]["spec"]["storage"]
    for consumer in (documents("Job")[0], documents("Deployment")[0]):
        pod = consumer["spec"]["template"]["spec"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == storage["volume"]["claimName"]
        assert f"{storage['path']}/merged" in json.dumps(pod["containers"])


def test_the_config_map_for_argo_cd_is_made_of_the_scripts() -> None:
    done = subprocess.run([REPOSITORY / "hack" / "argocd-cm", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
