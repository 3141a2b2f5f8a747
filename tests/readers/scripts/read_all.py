"""Makes merged models, lets every reader read them, and prints what differs.

Usage: read_all.py DIRECTORY READERS CASES, in the image of tests/readers/Dockerfile. READERS as JSON: {name of a
transformers: its directory of packages, or "" for the image's own}, the trainer's own first; CASES as JSON:
[{name, llamaCpp, ...}] as cases.py has it. Prints {case: {reader: {what was compared: [findings]}, "changed": how far
the adapter moves logits}} as JSON, and under "versions" each reader's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import compare  # type: ignore[import-not-found]  # beside it in the pod

HERE = Path(__file__).parent
LLAMA_CPP = "/opt/readers/llama.cpp"


def run(script: str, *arguments: str, packages: str = "", libraries: str = "") -> None:
    """Run a script in a process of its own, with directories of packages before the image's."""
    path = os.pathsep.join(part for part in (packages, os.environ.get("PYTHONPATH", "")) if part)
    more = {"PYTHONPATH": path} | ({"LD_LIBRARY_PATH": libraries, "LLAMA_CPP_LIB_PATH": libraries} if libraries else {})
    subprocess.run([sys.executable, HERE / script, *arguments], env=os.environ | more, stdout=sys.stderr, check=True)


def main() -> None:
    """Do it all, one after the other: each fills the machine."""
    directory, readers, cases = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    names = [case["name"] for case in cases]
    by_llama_cpp = [case["name"] for case in cases if case["llamaCpp"]]
    run("cases.py", str(directory), sys.argv[3])
    for reader, packages in readers.items():
        run("read_transformers.py", str(directory), reader, *names, packages=packages)
    run(
        "read_llama_cpp.py",
        *(str(directory), LLAMA_CPP, *by_llama_cpp),
        packages=f"{LLAMA_CPP}:{LLAMA_CPP}/gguf-py",
        libraries=f"{LLAMA_CPP}/lib",
    )
    print(json.dumps(results(directory, list(readers), cases)))  # noqa: T201


def results(directory: Path, readers: list[str], cases: list[dict[str, Any]]) -> dict[str, Any]:
    """All findings, and the readers' versions."""
    found: dict[str, Any] = {"versions": {}}
    for case in cases:
        where, trainer = directory / case["name"], readers[0]
        facts = {reader: json.loads((where / f"{reader}.json").read_text()) for reader in readers}
        found[case["name"]] = {reader: compare.of_transformers(where, case, reader, trainer) for reader in readers}
        found[case["name"]]["changed"] = facts[trainer]["changed"]
        if case["llamaCpp"]:
            found[case["name"]]["llama.cpp"] = compare.of_llama_cpp(where, case, trainer)
        found["versions"] = {reader: facts[reader]["version"] for reader in readers}
    return found


if __name__ == "__main__":
    main()
