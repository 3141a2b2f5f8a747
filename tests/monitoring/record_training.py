"""Records what node rank 0 of a real training serves: `python -m tests.monitoring.record_training DIRECTORY`.

Runs with a Python that has the trainer image's packages (docs/development.md). Two processes train a tiny model and
evaluate it now and then; the scrapes are thinned out to a few.
"""

from __future__ import annotations

import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from datasets import DatasetDict, load_from_disk  # type: ignore[import-not-found, unused-ignore]
from tests.monitoring.recordings import write
from tests.training.gang import Training
from tests.training.tiny import write_model

_LONGER: dict[str, Any] = {
    "num_train_epochs": 30.0, "save_steps": 100, "do_eval": True, "eval_dataset": "rows", "eval_strategy": "steps",
    "eval_steps": 40, "per_device_eval_batch_size": 2,
}  # fmt: skip


def main(directory: Path) -> None:
    """Train, scrape, and write what was told."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_model(root / "model")
        training = Training(root / "run").prepared(root / "model")
        arguments = root / "run" / "etc" / "train.yaml"
        arguments.write_text(yaml.safe_dump(yaml.safe_load(arguments.read_text()) | _LONGER))
        rows = training.directory / "data" / "tokenized"
        trained = load_from_disk(str(rows))["train"]
        splits = DatasetDict({"train": trained, "validation": trained.select(range(4))})
        splits.save_to_disk(str(rows.with_name("both")))
        rows.rename(rows.with_name("before"))
        rows.with_name("both").rename(rows)
        with training.attempt(1) as gang:
            command: Any = gang.nodes[0].args
            write(directory, list(_scrapes(gang.nodes, f"http://127.0.0.1:{command[-1]}/metrics")))
            assert gang.wait() == [0, 0], gang.log(0)


def _scrapes(nodes: list[Any], url: str) -> Any:
    while nodes[0].poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                yield answer.read().decode()
        except (urllib.error.URLError, OSError):  # it does not listen yet, or not any more
            pass
        time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
