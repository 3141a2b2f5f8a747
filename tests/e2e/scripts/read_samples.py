"""Runs in the trainer image: what a run has answered before and after its training, and what its page shows of that.

Prints one JSON document.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    left = json.loads((directory / "samples.json").read_text())
    page = "".join(ElementTree.parse(directory / "report.html").getroot().itertext())  # noqa: S314 - the trainer's own
    first = json.loads((directory / "preview.json").read_text())["samples"][0]["parts"][0]["text"]
    samples = [
        {
            "row": sample["row"],
            "question": re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", sample["prompt"], re.DOTALL)[-1],
            "asTrained": sample["prompt"] == first
            if sample["row"] == 1
            else sample["prompt"].startswith("<|im_start|>"),
            "onPage": sample["wanted"] in page,
            "changed": sample["before"] != sample["after"],
        }
        for sample in left["samples"]
    ]
    sys.stdout.write(
        json.dumps({"source": left["source"], "asked": left["asked"], "why": left["why"], "samples": samples})
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
