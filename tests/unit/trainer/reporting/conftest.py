"""Runs and what they have left, for pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from qwensft_trainer.contract.config import Run
from qwensft_trainer.reporting.losses import Losses, Point
from qwensft_trainer.reporting.records import Records
from qwensft_trainer.training.samples import Samples

RUN: dict[str, Any] = {
    "owner": {"uid": "uid-1", "namespace": "team", "name": "support"},
    "runDirectory": "/workspace/support-1",
    "model": {
        "name": "Qwen/Qwen3-8B",
        "path": "/workspace/support-1/model",
        "download": {"hub": "huggingFace", "repo": "Qwen/Qwen3-8B"},
    },
    "datasets": [
        {"name": "tickets", "format": "sharegpt", "path": "/datasets/tickets/sft/train.jsonl", "weight": 0.7},
        {
            "name": "manual",
            "format": "alpaca",
            "download": {"hub": "url", "url": "https://example.com/manual.json?X-Signature=abcdef"},
        },
    ],
    "evaluation": {
        "datasets": [
            {
                "name": "held-out",
                "format": "openai",
                "download": {"hub": "modelScope", "repo": "team/rows", "split": "test"},
            }
        ]
    },
    "tuning": {"method": "lora"},
    "accelerator": {"count": 8},
}


def run(**changes: Any) -> Run:
    """A run of two datasets and one to evaluate on, with changes to its sections."""
    return Run.model_validate(RUN | changes)


def records(**changes: Any) -> Records:
    """What a run leaves that was interrupted once, evaluated and merged."""
    values: dict[str, Any] = {
        "prepared": {
            "template": "qwen3",
            "rows": {"tickets": 1200, "manual": 40, "held-out": 60},
            "warnings": ["dataset tickets: 3 of 1200 rows have a key note that nothing reads (train.jsonl row 7)"],
            "seconds": 74.2,
            "lengths": {"width": 50, "counts": [3, 40, 700, 400, 90, 5], "longer": 2},
            "metrics": {
                "samples": 1240,
                "tokens": 410_000,
                "evalSamples": 60,
                "truncatedSamples": 2,
                "lengthP50": 140,
                "lengthP90": 220,
                "lengthP99": 260,
                "lengthMax": 2100,
                "model": {"parameters": 8_190_735_360},
            },
        },
        "trained": {
            "directory": "train/2",
            "completedAt": "2026-11-30T12:00:00+00:00",
            "processes": 16,
            "device": "NVIDIA H200",
            "arguments": "learning_rate: 0.0001\nlora_rank: 16\n",
            "configDigest": "sha256:c0",
            "contents": "sha256:c1",
            "metrics": {
                "step": 200,
                "totalSteps": 200,
                "epoch": 3.0,
                "loss": 0.512,
                "initialLoss": 2.31,
                "evalLoss": 0.71,
                "bestEvalLoss": 0.68,
                "bestStep": 150,
                "tokensPerSecond": 14_110.4,
                "attemptChecksSeconds": 2.5,
                "attemptPaddingShare": 0.21,
                "attemptModelFlopsUtilization": 0.428,
            },
            "outputs": {"adapter": {"path": "support-1/train/2", "sizeBytes": 1 << 27, "digest": "sha256:a0"}},
        },
        "merged": {
            "engine": "streaming",
            "seconds": 95.0,
            "warnings": [],
            "templateParity": {"compared": 32, "differ": 0},
            "verification": {
                "tensors": 399,
                "changed": 252,
                "kept": 0.98,
                "prompts": 1,
                "relativeError": 3.1e-6,
                "tolerance": 1e-4,
            },
            "output": {"path": "support-1/merged", "sizeBytes": 16 << 30, "digest": "sha256:b0"},
        },
        "arguments": {
            "learning_rate": 1e-4,
            "cutoff_len": 2048,
            "num_train_epochs": 3.0,
            "lora_rank": 16,
            "lora_target": "all",
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 4,
        },
        "attempts": [
            ("1", {"nodes": 2, "begunAt": "2026-11-30T10:00:00+00:00"}),
            ("2", {"nodes": 2, "begunAt": "2026-11-30T11:00:00+00:00", "resumeStep": 100}),
        ],
        "losses": Losses(
            tuple(Point(step, 0.5 + 1.8 / step) for step in range(1, 201)),
            tuple(Point(step, 0.68 + abs(step - 150) / 1000) for step in range(50, 201, 50)),
        ),
        "commit": "0123456789abcdef",
    }
    return Records(**(values | changes))


def samples(text: str = "How long is the warranty?", **changes: Any) -> Samples:
    """Two rows of which the second was not answered after the training; `text` is in all of them."""
    values: dict[str, Any] = {
        "directory": "train/2",
        "completedAt": "2026-11-30T12:00:00+00:00",
        "asked": 2,
        "source": "evaluation",
        "rows": 60,
        "newTokens": 512,
        "seconds": 41.5,
        "samples": [
            {
                "row": 1,
                "prompt": f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
                "wanted": text,
                "before": {"text": text, "complete": False},
                "after": {"text": text, "complete": True},
            },
            {"row": 31, "prompt": text, "wanted": text, "before": {"text": "", "complete": True}},
        ],
    }
    return Samples.model_validate(values | changes)


class Page(HTMLParser):
    """A page as a browser's parser sees it: elements with the names of their attributes, texts, and what is open."""

    VOID = frozenset({"meta", "path", "br", "link", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID, f"<{tag}/> is no empty element of HTML"
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)
