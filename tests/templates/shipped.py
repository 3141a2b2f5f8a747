"""Fetches the chat templates that Qwen models are shipped with, as llama.cpp's sources hold them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from quickstart.shell import REPOSITORY

REQUIREMENT = REPOSITORY / "requirements" / "shipped.txt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwensft" / "shipped"
DIRECTORY = "/vendor/llama.cpp/models/templates/"


def chat_templates(names: set[str]) -> dict[str, str]:
    """Return name.jinja → text. Downloads the source distribution once; its hash is that of the requirements file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    subprocess.run(
        [*pip, "--requirement", str(REQUIREMENT), "--dest", str(CACHE), "--find-links", str(CACHE)], check=True
    )
    version = next(line for line in REQUIREMENT.read_text().splitlines() if "==" in line).split("==")[1].split()[0]
    wanted = {f"{name}.jinja" for name in names}
    with tarfile.open(CACHE / f"llama_cpp_python-{version}.tar.gz") as archive:
        found = {
            Path(member.name).name: file.read().decode()
            for member in archive
            if DIRECTORY in member.name
            and Path(member.name).name in wanted
            and (file := archive.extractfile(member)) is not None
        }
    if missing := wanted - set(found):
        raise LookupError(f"llama-cpp-python {version} has no {', '.join(sorted(missing))}")
    return found
