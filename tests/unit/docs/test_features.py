"""docs/features.md names a test for every feature of Qwen's LLaMA-Factory page, and each of these tests exists."""

import ast
import re
from pathlib import Path

import pytest
from tests.matrix import test_matrix

REPOSITORY = Path(__file__).parents[3]
TEXT = (REPOSITORY / "docs" / "features.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:\[([^\]`]+)\])?`", TEXT)))
TABLE_LINES = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| --")]

# Every argument of the page's two commands, and every key of its dataset_info.json but columns and tags.
ARGUMENTS = """
    nproc_per_node nnodes node_rank master_addr master_port
    deepspeed stage do_train use_fast_tokenizer flash_attn model_name_or_path dataset template finetuning_type
    lora_target output_dir overwrite_cache overwrite_output_dir warmup_steps weight_decay per_device_train_batch_size
    gradient_accumulation_steps ddp_timeout learning_rate lr_scheduler_type logging_steps cutoff_len save_steps
    plot_loss num_train_epochs bf16
    adapter_name_or_path export_dir export_size export_legacy_format
    file_name formatting
""".split()  # noqa: SIM905


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows_of(test: str) -> set[str]:
    """The rows that a test of the matrix runs for."""
    marks = getattr(test_matrix, test).pytestmark
    return {parameter.id for mark in marks if mark.name == "parametrize" for parameter in mark.args[1]}


@pytest.mark.parametrize(("path", "name", "case"), TESTS, ids=lambda part: part or "-")
def test_every_named_test_exists(path: str, name: str, case: str) -> None:
    assert name in functions(REPOSITORY / path)
    if case:
        assert path == "tests/matrix/test_matrix.py", "only rows of the matrix are named as cases"
        assert case in rows_of(name)


@pytest.mark.parametrize("line", TABLE_LINES, ids=lambda line: line.split("|")[1].strip()[:40])
def test_every_feature_has_a_test(line: str) -> None:
    heading = line.replace(" ", "") == "|Feature|Here|Test|"
    assert heading or re.search(r"`tests/[\w/]+\.py::\w+", line)


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_every_argument_of_the_page_is_in_the_table(argument: str) -> None:
    assert any(re.search(rf"`{argument}`", line) for line in TABLE_LINES)
