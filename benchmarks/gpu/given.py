"""Gets the benchmark going where torch is given and all else comes as wheels: an image with torch and CUDA, no network.

Nothing that is given is changed: the wheels go into a folder of their own, which PYTHONPATH names. torch and what is
compiled against it stay as they are. Needs the standard library and pip alone. ADR 0146 says why.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "trainer-image" / "requirements.txt"
WANTED = "wheels.txt"
COMPANIONS = "wheels-of-torch.txt"

_PYTHONS = (3, 11)
_OLDEST_TORCH = (2, 4)
# Whatever torch was built with, and the libraries that it loads.
_OF_TORCH = re.compile(r"torch|triton|nvidia-.*")
# Compiled against torch, so in the release that goes with the one that is given.
_COMPANIONS = ("torchaudio", "torchvision")
# A source distribution, of which one process needs nothing.
_LEFT_OUT = frozenset({"deepspeed"})
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)((?:\s*\\\n\s+--hash=\S+)*)", re.MULTILINE)
_CHECK = """
import json, llamafactory, torch, transformers
from llamafactory.train import tuner
print(json.dumps({"file": torch.__file__, "version": torch.__version__, "cuda": torch.cuda.is_available()}))
"""


@dataclass(frozen=True)
class Pin:
    """A package in the version that the trainer image has; `hashes` are pip's options, as they stand in the file."""

    name: str
    version: str
    hashes: str = ""

    @property
    def line(self) -> str:
        """As it stands in a file of requirements."""
        return f"{self.name}=={self.version}{self.hashes}"

    def is_in(self, files: Iterable[str]) -> bool:
        """Whether one of these files' names is a wheel of it."""
        start = f"{_normal(self.name).replace('-', '_')}-{self.version}-".lower()
        return any(file.lower().replace(".", "_").startswith(start.replace(".", "_")) for file in files)


def run(wheels: Path, packages: Path, arguments: Sequence[str]) -> None:
    """Install into `packages` what is not given, and run the benchmark there in the place of this process.

    Raises SystemExit with what is missing, and the commands that fetch it.
    """
    given = {_normal(found.metadata["Name"]): found.version for found in metadata.distributions()}
    _require_torch(given)
    wanted, companions = split(pins(REQUIREMENTS.read_text()), given)
    wheels.mkdir(parents=True, exist_ok=True)
    files = [path.name for path in wheels.glob("*.whl")]
    commands = []
    for name, group in ((WANTED, wanted), (COMPANIONS, companions)):
        (wheels / name).write_text("".join(f"{pin.line}\n" for pin in group))
        if any(not pin.is_in(files) for pin in group):
            commands.append(fetch(name))
    lacking = [pin for pin in (*wanted, *companions) if not pin.is_in(files)]
    if lacking:
        names = ", ".join(f"{pin.name} {pin.version}" for pin in lacking[:8])
        raise SystemExit(
            f"{wheels} lacks {len(lacking)} wheels for Python {platform.python_version()}: {names}"
            f"{', …' if len(lacking) > 8 else ''}.\nOn a machine with a network, in a copy of that folder, in bash:\n\n"
            + "\n".join(commands)
        )
    _install(wheels, packages, [WANTED, COMPANIONS] if companions else [WANTED])
    places = [packages, *(REPOSITORY / name for name in ("client", "operator", "trainer-image", "."))]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(place) for place in places),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),  # torchrun
    }
    _check(environment, given["torch"])
    print(f"torch {given['torch']} is given; {len(wanted) + len(companions)} packages come from {wheels}", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks.gpu", *arguments], environment)  # noqa: S606


def pins(requirements: str) -> list[Pin]:
    """What a compiled file of requirements pins."""
    return [Pin(*found) for found in _PIN.findall(requirements)]


def split(pinned: Sequence[Pin], given: Mapping[str, str]) -> tuple[list[Pin], list[Pin]]:
    """What has to come as wheels: packages that are not given, or in another version; and what goes with torch.

    torch itself, and what it loads, is never among them.
    """
    wanted, companions = [], []
    for pin in pinned:
        if pin.name in _COMPANIONS:
            if pin.name not in given:
                companions.append(_companion(pin, given["torch"], {one.name: one for one in pinned}["torch"].version))
        elif not (
            _OF_TORCH.fullmatch(pin.name) or pin.name in _LEFT_OUT or given.get(_normal(pin.name)) == pin.version
        ):
            wanted.append(pin)
    return wanted, companions


def fetch(requirements: str) -> str:
    """The command, in bash, that fetches the wheels of a file for this Python and this C library."""
    libc = platform.libc_ver()[1] or "2.28"
    machine = platform.machine()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    tags = (
        f"--platform=manylinux_2_{{5..{libc.partition('.')[2]}}}_{machine} "
        f"--platform={{manylinux1,manylinux2010,manylinux2014,linux}}_{machine}"
    )
    return (
        f"python3 -m pip download --dest . --no-deps --only-binary=:all: --requirement {shlex.quote(requirements)} "
        f"--implementation cp --python-version {version} {tags}"
    )


def _companion(pin: Pin, torch: str, pinned_torch: str) -> Pin:
    """Torchvision 0.23 belongs to torch 2.8, and so on; torchaudio has torch's own numbers."""
    release = torch.partition("+")[0]
    if release == pinned_torch:
        return pin
    major, minor, patch = (*release.split("."), "0")[:3]
    return Pin(pin.name, release if pin.name == "torchaudio" else f"{int(major) - 2}.{int(minor) + 15}.{patch}")


def _require_torch(given: Mapping[str, str]) -> None:
    if sys.version_info[:2] < _PYTHONS:
        raise SystemExit(f"LLaMA-Factory needs Python 3.11 or newer; this is {platform.python_version()}")
    if "torch" not in given:
        raise SystemExit(f"{sys.executable} has no torch: run this with the Python of an image that brings it")
    numbers = tuple(int(part) for part in re.findall(r"\d+", given["torch"])[:2])
    if numbers < _OLDEST_TORCH:
        raise SystemExit(f"LLaMA-Factory needs torch 2.4 or newer; {given['torch']} is given")


def _install(wheels: Path, packages: Path, files: Sequence[str]) -> None:
    """Leaves a folder alone that was made of the same files."""
    mark, state = packages / ".made-of", f"{sys.version}\n" + "".join((wheels / name).read_text() for name in files)
    if mark.exists() and mark.read_text() == state:
        return
    for name in files:  # one after the other: of torch's companions no hashes are known
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-index", "--find-links", str(wheels), "--no-deps", "--upgrade", "--target", str(packages)]
        done = subprocess.run(
            [*command, "--requirement", str(wheels / name)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(
                f"the wheels of {wheels / name} cannot be installed:\n{done.stderr.strip()[-2000:]}\n\n"
                f"If they are of another Python or platform, fetch them anew:\n\n{fetch(name)}"
            )
    mark.write_text(state)


def _check(environment: Mapping[str, str], torch: str) -> None:
    """That all of it works together, with the torch that is given and no other."""
    done = subprocess.run([sys.executable, "-c", _CHECK], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the packages do not work with torch {torch}:\n{done.stderr.strip()[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["version"] != torch and found["version"].partition("+")[0] != torch.partition("+")[0]:
        raise SystemExit(f"torch {torch} is given, but {found['version']} of {found['file']} was imported")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
