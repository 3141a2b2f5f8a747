"""Rows on a plain machine, without a run: judged as prepare judges them, recognised, and shown as training sees them.

`python -m qwensft_trainer.stages.rows FOLDER`: one request comes as JSON on the standard input, one answer goes out.
The command line of the distribution qwensft asks in this way (ADR 0174). The log goes to the standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from qwensft_trainer.base.environment import forbid_hub_access
from qwensft_trainer.contract.config import Dataset, Run
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_model
from qwensft_trainer.data import normalise
from qwensft_trainer.data.file_types import read_rows
from qwensft_trainer.data.layout import DEFAULT_COLUMNS
from qwensft_trainer.data.row_checks import conversation
from qwensft_trainer.data.row_fields import RowProblem
from qwensft_trainer.data.source import Source
from qwensft_trainer.data.thinking import Thinking
from qwensft_trainer.model import families

Answer = dict[str, Any]

_LOOKED_AT = 100  # rows that tell a format


def judge(request: Mapping[str, Any], work: Path) -> Answer:
    """Check every row of local files, as prepare does: {"rows", "warnings", "metrics"}.

    Args:
        request: "run" is run.yaml; "files" are paths by the names of datasets, and only these are looked at; "model" is
            a folder with the model's tokenizer and config.json, or absent; "arguments" are those of train.yaml.
        work: An empty folder.

    Raises:
        PermanentError: InvalidDataset that names the rows, InvalidModel where no template is known.
    """
    run = _local(request, work)
    template = families.resolve_template(run) if request.get("model") else run.model.template
    if template is None:
        raise invalid_model(
            f"the name {run.model.name} tells no template: name a folder with the model's config.json and tokenizer "
            "(--model), or set spec.model.template."
        )
    arguments = request.get("arguments", {})
    shipped = families.chat_template(run.model.path) if request.get("model") else None
    thinking = Thinking(template, shipped, on=arguments.get("enable_thinking", True))
    found = normalise.write_normalised(run, _sources(request), thinking)
    return {"rows": found.rows, "warnings": found.warnings, "metrics": found.metrics}


def show(request: Mapping[str, Any], work: Path) -> Answer:
    """Do as `judge`, and give the first rows as the model sees them, too: "samples", as preview.json has them.

    "rows" in the request is how many of each dataset. Needs what the image holds: LLaMA-Factory and torch.
    """
    from qwensft_trainer.data import tokenization

    answer = judge(request, work)
    run = _local(request, work)
    arguments = request.get("arguments", {})
    template = families.resolve_template(run)
    samples = tokenization.samples(run, arguments, template, scratch=work, rows=int(request["rows"]))
    return answer | {"samples": [one.document() for one in samples]}


def recognise(request: Mapping[str, Any], _: Path) -> Answer:
    """Say in which format the rows of "file" are: {"format", "rows"}; the number is of the rows of the whole file.

    Raises:
        PermanentError: InvalidDataset: in none, with what is wrong in the likeliest.
    """
    path = Path(request["file"])
    columns = {column for names in DEFAULT_COLUMNS.values() for column in names.values()}
    looked_at = list(islice(read_rows(path, columns), _LOOKED_AT))
    problems: dict[str, list[str]] = {}
    for form in DEFAULT_COLUMNS:
        problems[form] = found = []
        for row in looked_at:
            try:
                if row.problem:
                    raise RowProblem(row.problem)
                conversation(Dataset.model_validate({"name": "rows", "format": form}), row.value)
            except RowProblem as problem:
                found.append(f"row {row.number}: {problem}")
    best = min(problems, key=lambda form: len(problems[form]))
    if not looked_at:
        raise PermanentError("InvalidDataset", f"{path}: the file holds no rows.")
    if len(problems[best]) == len(looked_at):
        raise PermanentError("InvalidDataset", f"{path}: {problems[best][0]}")
    return {"format": best, "rows": sum(1 for _ in read_rows(path, columns))}


ACTIONS = {"judge": judge, "show": show, "recognise": recognise}


def _local(request: Mapping[str, Any], work: Path) -> Run:
    """The run with the datasets whose files are here, in an empty folder."""
    document = dict(request["run"]) | {"runDirectory": str(work / "run")}
    document["model"] = dict(document["model"]) | {"path": request.get("model") or str(work / "model")}
    document["datasets"] = [one for one in document["datasets"] if one["name"] in request["files"]]
    if datasets := (document.get("evaluation") or {}).get("datasets"):
        chosen = [one for one in datasets if one["name"] in request["files"]]
        document["evaluation"] = document["evaluation"] | {"datasets": chosen}
        if not chosen:
            del document["evaluation"]
    return Run.model_validate(document)


def _sources(request: Mapping[str, Any]) -> dict[str, Source]:
    paths = {name: Path(path) for name, path in request["files"].items()}
    return {name: Source(path.parent, (path.name,)) for name, path in paths.items()}


def main() -> int:
    """Answer one request; its "action" is a key of ACTIONS. A failure is {"reason", "message"}, and returns 0, too."""
    answers, sys.stdout = sys.stdout, sys.stderr
    work = Path(sys.argv[1])
    request = json.load(sys.stdin)
    forbid_hub_access()
    try:
        answer = ACTIONS[request["action"]](request, work)
    except StageError as error:
        answer = {"reason": error.reason, "message": error.message}
    except ModuleNotFoundError as error:
        answer = {"reason": "MissingPackage", "message": str(error.name)}
    except OSError as error:
        answer = {"reason": "Unreadable", "message": str(error)}
    answers.write(json.dumps(answer))
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
