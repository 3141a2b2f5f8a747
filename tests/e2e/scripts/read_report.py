"""Runs in the trainer image: reads the page that a run has left, by a strict parser. Prints one JSON document."""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("page", type=Path)
    content = parser.parse_args().page.read_bytes()
    page = ElementTree.fromstring(content)  # noqa: S314 - the trainer's own
    found = {
        "size": len(content),
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "headings": [element.text for element in page.iter() if element.tag in {"h1", "h2", "h3"}],
        "rows": [element.text for element in page.iter("th") if element.get("scope") == "row"],
        "curve": next(element.text for element in page.iter("desc")),
        "text": " ".join(page.itertext()),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
