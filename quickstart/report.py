"""What came out of the run: the table, the loss and its curve, the merged model's files, and answers before and after.

Also judges them: the quickstart has succeeded only if the model has demonstrably learned.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import plotext

from quickstart.inputs import EXAMPLES, MODEL_CLAIM, MODEL_PATH
from quickstart.pods import printed_json, run_script
from quickstart.setup import Ready
from quickstart.shell import REPOSITORY
from quickstart.steps import QuickstartError, size

QUESTIONS = EXAMPLES / "data" / "questions.txt"
SCRIPT = REPOSITORY / "quickstart" / "scripts" / "ask.py"
# The last loss must be at most this share of the first.
LOSS_SHARE = 0.5
PLOT_WIDTH, PLOT_HEIGHT = 72, 14


@dataclass(frozen=True)
class Asked:
    """One question with the answer of the training rows and the answers of both models."""

    question: str
    expected: str
    base: str
    merged: str


@dataclass(frozen=True)
class Report:
    """What the report pod found on the volume."""

    asked: list[Asked]
    losses: list[tuple[int, float]]
    files: list[tuple[str, int]]


def targets() -> list[tuple[str, str]]:
    """Return the questions that were fixed beforehand with their answers in the training rows."""
    lines = [line for line in QUESTIONS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    pairs = [line.split("\t") for line in lines]
    return [(question.strip(), answer.strip()) for question, answer in pairs]


def collect(ready: Ready, job: dict[str, Any]) -> Report:
    """Ask both models in a pod that mounts the job's volumes read-only."""
    outputs = job["status"]["outputs"]
    merged, adapter = (PurePosixPath("/workspace") / outputs[key]["path"] for key in ("merged", "adapter"))
    wanted = targets()
    arguments = [
        "--base", f"/model/{MODEL_PATH}", "--merged", str(merged), "--trained", str(adapter),
        *(question for question, _ in wanted),
    ]  # fmt: skip
    claims = {"/model": MODEL_CLAIM, "/workspace": outputs["merged"]["claimName"]}
    printed = run_script(
        ready.kubectl, job["metadata"]["namespace"], SCRIPT, arguments, image=ready.images.trainer, claims=claims
    )
    found = printed_json(printed)
    answered = zip(wanted, found["base"], found["merged"], strict=True)
    return Report(
        asked=[Asked(question, expected, base, merged) for (question, expected), base, merged in answered],
        losses=[(int(step), float(loss)) for step, loss in found["losses"]],
        files=[(str(name), int(count)) for name, count in found["files"]],
    )


def show(ready: Ready, job: dict[str, Any], report: Report) -> None:
    """Print everything."""
    namespace = job["metadata"]["namespace"]
    print(f"\n$ kubectl get qsft -n {namespace}")
    print(ready.kubectl("get", "qsft", "-n", namespace).rstrip())

    (first_step, first), (last_step, last) = report.losses[0], report.losses[-1]
    print(f"\nLoss: {first:.2f} at step {first_step}, {last:.2f} at step {last_step} ({100 * last / first:.0f} %)")
    print(plot(report.losses))

    merged = job["status"]["outputs"]["merged"]
    print(f"\nMerged model: {merged['path']} on the volume {merged['claimName']}")
    width = max(len(name) for name, _ in report.files)
    for name, count in report.files:
        print(f"  {name:<{width}}  {size(count):>9}")
    print(f"  {'in all':<{width}}  {size(merged['sizeBytes']):>9}  {merged['digest']}")

    print("\nThe same questions to both models (greedy decoding):")
    for item in report.asked:
        mark = "✓" if item.merged == item.expected else "✗"
        print(f"\n  Q       {item.question}")
        print(f"  base    {_shorten(item.base)}")
        print(f"  merged  {_shorten(item.merged)}  {mark}")


def judge(report: Report) -> None:
    """Raise unless the loss fell far enough and the merged model learned an answer that the base lacks."""
    first, last = report.losses[0][1], report.losses[-1][1]
    if last > LOSS_SHARE * first:
        raise QuickstartError(
            f"the loss fell from {first:.2f} to {last:.2f} only; at most {LOSS_SHARE:.0%} was expected"
        )
    known = [item.question for item in report.asked if item.base == item.expected]
    if known:
        raise QuickstartError(f"the base model already answers {known[0]!r}: this run proves nothing")
    if not any(item.merged == item.expected for item in report.asked):
        raise QuickstartError("the merged model answers none of the questions as its training rows do")


def plot(losses: list[tuple[int, float]]) -> str:
    """Draw the loss over the steps with characters."""
    steps, values = [step for step, _ in losses], [loss for _, loss in losses]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(min(PLOT_WIDTH, shutil.get_terminal_size().columns), PLOT_HEIGHT)
    figure.title("training loss")
    figure.label("step", "x")
    figure.ruler("y").lim(0, max(values))
    figure.ruler("x").ticks([steps[0], *(steps[-1] * quarter // 4 for quarter in range(1, 5))])
    figure.draw(figure.signal(steps, values, marker="braille").lines())
    return str(plotext.uncolorize(figure.build()))


def _shorten(text: str, limit: int = 90) -> str:
    """Put an answer on one line; a random model says anything, control characters included."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return (line if len(line) <= limit else line[: limit - 1] + "…") or "(nothing)"
