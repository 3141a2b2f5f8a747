"""`python -m benchmarks.merge`: both merge engines and the verification beside LLaMA-Factory's export.

Runs in the trainer image, on the cluster that `make setup` made. README.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.merge.figures import report
from quickstart import inputs
from quickstart.pods import printed_json, run_script
from tests.e2e.runs import installed

NAMESPACE = "qwensft-benchmark"
SCRIPTS = Path(__file__).parent / "scripts"
TOOLS = Path(__file__).parents[2] / "trainer-image" / "tools"


def main() -> None:
    """Run, print JSON and tables, and leave nothing behind."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.merge")
    options.add_argument("--sizes", nargs="+", choices=("0.5", "1.5", "3"), default=["0.5", "1.5", "3"])
    options.add_argument("--repeats", type=int, default=2)
    chosen = options.parse_args()
    ready = installed()
    ready.kubectl.delete("namespace", NAMESPACE)
    inputs.make_namespace(ready.kubectl, NAMESPACE)
    beside = [SCRIPTS / "models.py", SCRIPTS / "contestants.py"]
    beside += [TOOLS / "make_tiny_model.py", TOOLS / "tiny_architectures.py"]
    try:
        printed = run_script(
            ready.kubectl,
            NAMESPACE,
            SCRIPTS / "measure.py",
            ["/tmp/bench", str(chosen.repeats), *chosen.sizes],  # noqa: S108 - in the pod
            image=ready.images.tiny_model,  # the trainer image, and a tokenizer
            claims={},
            files={path.name: path.read_text() for path in beside},
            timeout=7200.0,
        )
    finally:
        ready.kubectl.delete("namespace", NAMESPACE)
    found = printed_json(printed)
    print(json.dumps(found))
    print(report(found))


if __name__ == "__main__":
    main()
