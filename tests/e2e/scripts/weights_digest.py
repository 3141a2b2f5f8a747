"""Runs in the trainer image: prints the SHA-256 over all weights of a directory, file by file, on its last line."""

import argparse
import hashlib
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    digest = hashlib.sha256()
    files = sorted(parser.parse_args().directory.glob("*.safetensors"))
    if not files:
        raise SystemExit("no weights there")
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    sys.stdout.write(digest.hexdigest() + "\n")


if __name__ == "__main__":
    main()
