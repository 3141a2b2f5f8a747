"""Runs in the trainer image: asks the base and the merged model the same questions and reads the training log.

Prints one JSON document on the last line. Both models decode greedily, with the chat template and without thinking, so
that nothing but the weights can make the answers differ.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 32


def answers(directory: Path, questions: list[str]) -> list[str]:
    """Return the model's greedy answer to each question."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    found = []
    for question in questions:
        encoded = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            enable_thinking=False,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            output = model.generate(**encoded, max_new_tokens=NEW_TOKENS, do_sample=False)
        reply = output[0, encoded["input_ids"].shape[1] :]
        found.append(tokenizer.decode(reply, skip_special_tokens=True).strip())
    return found


def training_log(output: Path) -> Path:
    """Return the trainer_log.jsonl of a training's output: beside it, or in the nearest directory above."""
    candidates = [directory / "trainer_log.jsonl" for directory in (output, *output.parents)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise SystemExit(f"there is no trainer_log.jsonl in {output} or above it")
    return found


def losses(log: Path) -> list[list[float]]:
    """Return [step, loss] pairs of a trainer_log.jsonl."""
    records = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    return [[record["current_steps"], record["loss"]] for record in records if record.get("loss") is not None]


def main() -> None:
    """Answer, list, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--merged", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True, help="where the training left its adapter")
    parser.add_argument("questions", nargs="+")
    options = parser.parse_args()
    files = [[str(path.relative_to(options.merged)), path.stat().st_size] for path in sorted(options.merged.rglob("*"))]
    report = {
        "base": answers(options.base, options.questions),
        "merged": answers(options.merged, options.questions),
        "losses": losses(training_log(options.trained)),
        "files": files,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
