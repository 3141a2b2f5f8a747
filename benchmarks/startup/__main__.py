"""`python -m benchmarks.startup`: what the trainer's stages take before and beside the training, with the bare command.

In processes of a Python that has the trainer image's libraries, or with --cluster in the image itself. README.md says
what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.startup.figures import PARTS, table
from benchmarks.startup.inputs import ROOT, written

SCRIPTS = Path(__file__).parent / "scripts"
NAMESPACE = "qwensft-benchmark"
IN_THE_POD = Path("/tmp/startup")  # noqa: S108
IN_THE_IMAGE = "/opt/tiny-model/make_tiny_model.py"


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--python", default=sys.executable, help="with the libraries of the trainer's image")
    parser.add_argument("--cluster", action="store_true", help="in the image that `make setup` has built")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    parts = options.parts or list(PARTS)
    printed = _in_the_cluster(options.rounds, parts) if options.cluster else _here(options, parts)
    rounds: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines() if line.startswith('{"part"')]
    print(table(rounds))


def _here(options: argparse.Namespace, parts: list[str]) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        root, inputs = Path(temporary) / "startup", Path(temporary) / "inputs.json"
        written(inputs, root, str(ROOT / "trainer-image" / "tools" / "make_tiny_model.py"))
        path = os.pathsep.join(filter(None, [str(ROOT / "trainer-image"), os.environ.get("PYTHONPATH")]))
        command = [options.python, str(SCRIPTS / "measure.py"), str(inputs), str(root), str(options.rounds), *parts]
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _in_the_cluster(rounds: int, parts: list[str]) -> str:
    from quickstart import inputs as manifests  # noqa: PLC0415  # only there
    from quickstart.pods import run_script  # noqa: PLC0415
    from tests.e2e.runs import installed  # noqa: PLC0415

    ready = installed()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "inputs.json"
        written(path, IN_THE_POD, IN_THE_IMAGE)
        files = {"inputs.json": path.read_text()}
    files |= {name: (SCRIPTS / name).read_text() for name in ("imports.py", "trees.py")}
    ready.kubectl.delete("namespace", NAMESPACE)
    manifests.make_namespace(ready.kubectl, NAMESPACE)
    try:
        return run_script(
            ready.kubectl,
            NAMESPACE,
            SCRIPTS / "measure.py",
            ["/scripts/inputs.json", str(IN_THE_POD), str(rounds), *parts],
            image=ready.images.tiny_model,  # the trainer image, and a tokenizer
            claims={},
            files=files,
            timeout=7200.0,
        )
    finally:
        ready.kubectl.delete("namespace", NAMESPACE)


if __name__ == "__main__":
    main()
