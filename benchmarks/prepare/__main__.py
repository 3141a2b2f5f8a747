"""`python -m benchmarks.prepare`: the prepare stage beside LLaMA-Factory's own preprocessing, in the trainer image.

Needs the cluster that `make setup` made. README.md says what is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from quickstart import inputs
from quickstart.pods import printed_json, run_script
from tests.e2e.runs import installed

NAMESPACE = "qwensft-benchmark"
SCRIPTS = Path(__file__).parent / "scripts"


def main() -> None:
    """Run, print a table, and leave nothing behind."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.prepare")
    options.add_argument("--megabytes", type=int, default=1000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--rounds", type=int, default=1)
    chosen = options.parse_args()
    ready = installed()
    ready.kubectl.delete("namespace", NAMESPACE)
    inputs.make_namespace(ready.kubectl, NAMESPACE)
    try:
        printed = run_script(
            ready.kubectl,
            NAMESPACE,
            SCRIPTS / "measure.py",
            ["/tmp/bench", str(chosen.megabytes), str(chosen.workers), str(chosen.rounds)],  # noqa: S108 - in the pod
            image=ready.images.tiny_model,  # the trainer image, and a tokenizer
            claims={},
            files={name: (SCRIPTS / name).read_text() for name in ("generate.py", "cases.py")},
            timeout=3600.0,
        )
    finally:
        ready.kubectl.delete("namespace", NAMESPACE)
    print(table(printed_json(printed)))


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown; the faster round of each counts."""
    lines = [
        "| file | | s | CPU s | rows/s | MB/s | peak MiB | ratio of rates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in ("rows.jsonl", "rows.parquet"):
        best = {
            name: min((run for run in found["runs"] if (run["name"], run["file"]) == (name, file)), key=_seconds)
            for name in ("theirs", "ours")
        }
        for name, title in (("theirs", "LLaMA-Factory"), ("ours", "prepare")):
            run = best[name]
            ratio = f"{best['theirs']['seconds'] / run['seconds']:.2f}" if name == "ours" else ""
            rates = f"{found['rows'] / run['seconds']:.0f} | {found['megabytes'] / run['seconds']:.2f}"
            times = f"{run['seconds']} | {run['cpuSeconds']}"
            lines.append(f"| {file} | {title} | {times} | {rates} | {run['peakMiB']} | {ratio} |")
    same = "the same tokens and labels in every row" if found["same"] else "NOT THE SAME TOKENS"
    lines += ["", f"{found['rows']} rows; {same}.", "", "| case | s | peak MiB | |", "|---|---|---|---|"]
    lines += [
        f"| {case['case']} | {case['seconds']} | {case['peakMiB']} | {'refused' if case['refused'] else 'prepared'} |"
        for case in found["cases"]
    ]
    return "\n".join(lines)


def _seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


if __name__ == "__main__":
    main()
