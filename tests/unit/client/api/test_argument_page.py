"""docs/arguments.md: every argument of Qwen's guide, of the renderer and of the fields has its place on it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft.api import argument_page
from qwensft.api.v1alpha1 import parse_job
from qwensft.api.v1alpha1.arguments import OPERATOR_DEFAULTS, OPERATOR_SET, REFUSED_ARGUMENTS, TYPED_FIELDS
from qwensft_operator.render.llamafactory import export_arguments, train_arguments

from .test_documents import VALID, jobs

REPOSITORY = Path(__file__).parents[4]
PAGE = argument_page.page()
COMMANDS = (Path(__file__).parent / "data" / "qwen_guide_commands.txt").read_text(encoding="utf-8")


def options(command: str) -> dict[str, str]:
    """Options of a shell command -> value; true for one that has none."""
    words = re.split(r"[\s\\]+", command.strip())
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            found[word[2:]] = "true" if following.startswith("--") else following
    return found


def rows(title: str) -> dict[str, list[str]]:
    """A table of the page: first cell -> the others."""
    body = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells[2:]}


def test_the_page_tells_where_every_argument_of_the_guide_is_set() -> None:
    train, export = (options(command) for command in COMMANDS.split("\n\n"))
    assert (len(train), len(export)) == (26, 7)
    assert train | {"flash_attn": "(no value)"} == argument_page.TRAIN_COMMAND
    assert export == argument_page.EXPORT_COMMAND
    for name in train:
        assert rows("The training command of Qwen's guide")[f"`--{name}`"][1]
    for name in export:
        assert rows("The export command of Qwen's guide")[f"`--{name}`"][1]


# Paths, names, what the operator decides otherwise (deepspeed, overwrite_output_dir), what is spelled in another way.
NO_COMMON_DEFAULT = {
    "adapter_name_or_path",
    "bf16",
    "dataset",
    "deepspeed",
    "export_dir",
    "export_legacy_format",
    "export_size",  # without it the files are the base's
    "flash_attn",
    "lora_target",
    "model_name_or_path",
    "output_dir",
    "overwrite_output_dir",
    "template",
}


@pytest.mark.parametrize("command", ["training", "export"])
def test_a_default_is_the_value_of_the_guide(command: str) -> None:
    table = rows(f"The {command} command of Qwen's guide")
    compared = {name: row for name, row in table.items() if name.strip("`-") not in NO_COMMON_DEFAULT}
    assert compared
    assert {name: default.strip("`").split(",")[0] for name, (_, _, default) in compared.items()} == {
        name: in_guide for name, (in_guide, _, _) in compared.items()
    }


# What the trainer writes into the arguments, or does in place of LLaMA-Factory.
BY_THE_TRAINER = {
    "load_best_model_at_end",
    *("export_dir", "interleave_probs", "mix_strategy", "output_dir", "overwrite_output_dir"),
}


def rendered() -> set[str]:
    """The arguments that the renderer writes for some valid document."""
    written: set[str] = set()
    for path in VALID:
        for document in jobs(path):
            job = parse_job(with_identity(document))
            written |= set(train_arguments(job)) - set(job.spec.extra_arguments)
            written |= set(export_arguments(job))
    return written


def test_every_rendered_argument_is_on_the_page() -> None:
    written = rendered()
    assert len(written) > 60
    assert written - {name for name in written if f"`{name}`" in PAGE} == set()


def test_every_argument_of_a_field_is_rendered_for_some_document() -> None:
    """A field that nobody renders, or that no document in tests/contract/valid sets, would do nothing unnoticed."""
    typed = {name for field in TYPED_FIELDS for name in field.arguments}
    assert typed - rendered() == BY_THE_TRAINER


def with_identity(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "team", "uid": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"}
    return document | {"metadata": document["metadata"] | metadata}


def test_every_argument_has_one_place_only() -> None:
    typed = {name for field in TYPED_FIELDS for name in field.arguments}
    assert not typed & set(OPERATOR_SET)
    assert not typed & set(OPERATOR_DEFAULTS)
    assert typed | set(OPERATOR_SET) <= set(REFUSED_ARGUMENTS)
    assert not set(OPERATOR_DEFAULTS) & set(REFUSED_ARGUMENTS)


def test_every_refused_argument_is_one_that_llamafactory_knows() -> None:
    known = yaml.safe_load((REPOSITORY / "tests/unit/operator/render/known_arguments.yaml").read_text("utf-8"))
    assert set(REFUSED_ARGUMENTS) <= {
        name for command in known.values() if isinstance(command, dict) for name in command
    }


def test_a_field_is_listed_with_its_arguments_and_its_default() -> None:
    fields = rows("Every field that sets an argument")
    assert fields["`spec.tuning.lora.rank`"] == ["`lora_rank`", "`8`"]
    assert fields["`spec.training.precision`"] == ["`bf16`, `fp16`, `pure_bf16`", "`bf16`"]
    assert fields["`spec.model.name`"] == ["`model_name_or_path`", "*required*"]
    assert fields["`spec.evaluation.everySteps`"] == ["`do_eval`, `eval_strategy`, `eval_steps`", "training.saveSteps"]
