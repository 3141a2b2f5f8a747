"""Every row reaches the tokenised data and is measured, with a stand-in for LLaMA-Factory's processor.

That the real one gives the same tokens with and without the meter is shown in the image (ADR 0055).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from datasets import load_from_disk

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data import tokenization
from qwensft_trainer.data.chat_form import ChatForm, Defaults
from qwensft_trainer.data.encoder import Encoder
from qwensft_trainer.data.lengths import Lengths
from qwensft_trainer.data.normalise import write_normalised
from qwensft_trainer.data.thinking import Thinking
from qwensft_trainer.data.tokenization import TRAIN, VALIDATION

from ..conftest import UNREADABLE, Scene

IMAGE_TOKEN = 0


class Template:
    """A token for each word; each image is four tokens at the end of the first question."""

    efficient_eos = False
    default_system = ""
    format_tools = SimpleNamespace(tool_format="qwen")
    mm_plugin = SimpleNamespace(image_token="<|image_pad|>", video_token=None)  # noqa: S106

    def _encode(self, _tokenizer: Any, messages: list[dict[str, str]], *_: Any) -> list[list[int]]:
        return [
            [IMAGE_TOKEN if word == "<image>" else len(word) for word in one["content"].split()] for one in messages
        ]

    encode_multiturn: Any = None  # the encoder's own comes in its place


class Processor:
    """The shape of LLaMA-Factory's SupervisedDatasetProcessor, and of its packing relative."""

    def __init__(self) -> None:
        self.data_args = SimpleNamespace(
            cutoff_len=100,
            packing=False,
            neat_packing=False,
            preprocessing_batch_size=3,
            preprocessing_num_workers=None,
            eval_on_each_dataset=False,
            train_on_prompt=False,
        )
        self.template = Template()
        self.tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda tokens: [IMAGE_TOKEN for _ in tokens], decode=str)
        self.dropped = 0
        self.fails_on = ""
        self.failure: Exception = RuntimeError("a text with the row in it: secret answer")

    def _encode_data_example(
        self, prompt: list[dict[str, str]], response: list[dict[str, str]], images: list[str], **_: Any
    ) -> tuple[list[int], list[int]]:
        if response[0]["content"] == self.fails_on:
            raise self.failure
        first = prompt[0] | {"content": prompt[0]["content"].replace("<image>", "<image> " * 4)}
        pairs = self.template.encode_multiturn(None, [first, *prompt[1:], *response])
        tokens = [token for pair in pairs for side in pair for token in side][: self.data_args.cutoff_len]
        return tokens, [-100] * len(tokens)

    def preprocess_dataset(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = [
            self._encode_data_example(
                prompt=rows["_prompt"][index],
                response=rows["_response"][index],
                system=rows["_system"][index],
                tools=rows["_tools"][index],
                images=rows["_images"][index] or [],
                videos=rows["_videos"][index] or [],
                audios=rows["_audios"][index] or [],
            )
            for index in range(self.dropped, len(rows["_prompt"]))
        ]
        tokens = [pair[0] for pair in encoded]
        more: dict[str, list[Any]] = {}
        if self.data_args.packing:
            tokens = [[token for row in tokens for token in row]]
            more = {"position_ids": tokens}
        media = [None] * len(tokens) if self.data_args.packing else rows["_images"][self.dropped :]
        none = [None] * len(tokens)
        masks = [[1] * len(row) for row in tokens]
        return {"input_ids": tokens, "attention_mask": masks, "labels": tokens, "images": media} | {
            "videos": none,
            "audios": none,
            **more,
        }


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    chosen = Processor()
    form = ChatForm(chosen.template, "qwen", Defaults.of(chosen.template), thinks=True)
    monkeypatch.setattr(tokenization, "_load_encoder", lambda *_: Encoder(chosen, form, None, seed=42))
    return chosen


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"instruction": "word " * number, "output": "answer"} | more for number in range(1, count + 1)]


def tokenised(scene: Scene) -> dict[str, Lengths]:
    return with_warnings(scene).lengths


def with_warnings(scene: Scene) -> tokenization.Tokenised:
    run = scene.run
    write_normalised(run, dataset_source.provide(run), Thinking("qwen3"))
    return tokenization.tokenise(run, scene.train, "qwen3", scratch=scene.root / "scratch")


def saved(scene: Scene) -> Any:
    return load_from_disk(str(scene.run.tokenized_directory))


@pytest.mark.usefixtures("processor")
def test_every_row_is_there_with_its_length(scene: Scene) -> None:
    scene.add_dataset("support", rows(10))
    lengths = tokenised(scene)
    assert lengths[TRAIN].metrics() == {
        "samples": 10,
        "tokens": 65,
        "truncatedSamples": 0,
        "lengthP50": 6,
        "lengthP90": 10,
        "lengthP99": 11,
        "lengthMax": 11,
    }
    assert saved(scene)["train"].num_rows == 10
    assert saved(scene)["train"].column_names == [
        *("input_ids", "attention_mask", "labels", "images", "videos", "audios"),
    ]
    assert not (scene.run_directory / ".tokenize").exists()


def test_lengths_are_those_before_the_cut(scene: Scene, processor: Processor) -> None:
    processor.data_args.cutoff_len = 8
    scene.add_dataset("support", rows(10))
    lengths = tokenised(scene)[TRAIN]
    assert (lengths.longest, lengths.truncated, lengths.tokens) == (11, 3, 2 + 3 + 4 + 5 + 6 + 7 + 8 * 4)


def test_packing_counts_rows_not_sequences(scene: Scene, processor: Processor) -> None:
    processor.data_args.packing = True
    scene.add_dataset("support", rows(10))
    lengths = tokenised(scene)[TRAIN]
    assert (lengths.samples, lengths.tokens) == (10, 65)
    assert saved(scene)["train"].num_rows == 4
    assert "position_ids" in saved(scene)["train"].column_names


def test_a_dropped_row_is_an_error(scene: Scene, processor: Processor) -> None:
    processor.dropped = 1
    scene.add_dataset("support", rows(5))
    with pytest.raises(PermanentError, match="5 rows are valid but LLaMA-Factory encoded 3: it dropped 2"):
        tokenised(scene)
    assert not scene.run.tokenized_directory.exists()


def test_rows_that_are_all_dropped_are_an_error_too(scene: Scene, processor: Processor) -> None:
    processor.dropped = 5
    scene.add_dataset("support", rows(3))
    with pytest.raises(PermanentError, match="3 rows are valid but LLaMA-Factory encoded 0"):
        tokenised(scene)


@pytest.mark.parametrize("processes", [None, 2])
def test_a_row_on_which_the_encoder_fails_is_named_without_its_text(
    scene: Scene, processor: Processor, processes: int | None
) -> None:
    processor.fails_on = "secret answer"
    processor.data_args.preprocessing_num_workers = processes
    scene.add_dataset("support", [*rows(5), {"instruction": "who", "output": "secret answer"}, *rows(3)])
    with pytest.raises(PermanentError) as caught:
        tokenised(scene)
    assert caught.value.reason == "InvalidDataset"
    assert caught.value.message == (
        "dataset support, file data.json, row 6: LLaMA-Factory cannot encode the row (RuntimeError in "
        "test_tokenization.py, _encode_data_example). Correct the row or take it out."
    )


def test_a_volume_in_trouble_while_rows_are_encoded_is_tried_again(scene: Scene, processor: Processor) -> None:
    processor.fails_on, processor.failure = "answer", OSError(5, "Input/output error")
    scene.add_dataset("support", rows(5))
    with pytest.raises(OSError, match="Input/output error"):
        tokenised(scene)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("where", ["File", "Log"])
def test_the_first_rows_are_shown_and_in_the_log_only_if_asked(
    scene: Scene, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    scene.add_dataset("support", rows(5))
    scene.document["prepare"] = {"preview": where}
    tokenised(scene)
    text = (scene.run_directory / "preview.txt").read_text()
    assert text.count("=== dataset support, file data.json, row ") == 3
    printed = capsys.readouterr().out
    assert (
        f"the first rows as the model sees them are in {scene.run_directory}/preview.txt: 2 tokens (0 learnt)"
        in printed
    )
    assert ("=== dataset support" in printed) == (where == "Log")


def test_rows_are_shown_also_when_a_later_one_fails(scene: Scene, processor: Processor) -> None:
    processor.fails_on = "last"
    scene.add_dataset("support", [*rows(4), {"instruction": "who", "output": "last"}])
    with pytest.raises(PermanentError):
        tokenised(scene)
    assert (scene.run_directory / "preview.txt").is_file()


def test_a_cut_image_is_an_error_that_names_the_row(scene: Scene, processor: Processor, tmp_path: Path) -> None:
    scene.add_dataset("cats", [{"instruction": "<image> what", "output": "yes", "images": []}])
    run = scene.run
    write_normalised(run, dataset_source.provide(run), Thinking("qwen3"))
    processor.data_args.cutoff_len = 3
    with pytest.raises(PermanentError) as caught:
        tokenization.tokenise(run, scene.train, "qwen3", scratch=tmp_path)
    assert (
        "longer than spec.training.cutoffLen allows (3 tokens): dataset cats, file data.json, row 1 (6 tokens). Raise"
        in str(caught.value)
    )


@pytest.mark.usefixtures("processor")
def test_a_fraction_becomes_the_validation_split(scene: Scene) -> None:
    scene.add_dataset("support", rows(10))
    scene.document["evaluation"] = {"fraction": 0.25}
    lengths = tokenised(scene)
    assert {name: split.samples for name, split in lengths.items()} == {TRAIN: 7, VALIDATION: 3}
    assert {name: split.num_rows for name, split in saved(scene).items()} == {TRAIN: 7, VALIDATION: 3}


def evaluated(scene: Scene) -> None:
    scene.add_dataset("quiz", rows(4))
    scene.add_dataset("exam", rows(3), sampleCount=2)
    scene.document["evaluation"] = {"datasets": [scene.document["datasets"].pop(), scene.document["datasets"].pop()]}
    scene.document["mixing"] = {"strategy": "interleave_under"}


@pytest.mark.usefixtures("processor")
def test_evaluation_sets_are_joined_whole_however_the_training_data_is_mixed(scene: Scene) -> None:
    evaluated(scene)
    scene.add_dataset("support", rows(6), weight=1)
    scene.add_dataset("manual", rows(9), weight=5)
    lengths, (warning,), *_ = with_warnings(scene)
    assert lengths[VALIDATION].samples == 4 + 2
    lost = 6 + 9 - lengths[TRAIN].samples
    assert warning == (
        f"interleave_under ends with the first dataset that is used up and leaves out {lost} of 6 rows of support"
    )


def test_evaluation_sets_can_be_told_apart(scene: Scene, processor: Processor) -> None:
    processor.data_args.eval_on_each_dataset = True
    evaluated(scene)
    scene.add_dataset("support", rows(6))
    assert set(tokenised(scene)) == {TRAIN, "validation_quiz", "validation_exam"}


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("strategy", "samples"),
    [("concat", 15), ("interleave_under", 12), ("interleave_over", 18), ("interleave_once", 15)],
)
def test_mixed_datasets_have_the_samples_their_strategy_promises(scene: Scene, strategy: str, samples: int) -> None:
    scene.document["mixing"] = {"strategy": strategy}
    scene.add_dataset("support", rows(20), sampleCount=6)
    scene.add_dataset("manual", rows(9))
    lengths, warnings, *_ = with_warnings(scene)
    assert lengths[TRAIN].samples == samples
    assert bool(warnings) == (strategy == "interleave_under")


class Library:
    """What _load_encoder takes of LLaMA-Factory 0.9.5 and transformers: reads files and wraps errors as they do."""

    def __init__(self, model: Path) -> None:
        self.model_args = SimpleNamespace(
            model_name_or_path=str(model), use_fast_tokenizer=True, trust_remote_code=False
        )

    def get_train_args(self, _arguments: dict[str, Any]) -> tuple[Any, ...]:
        return self.model_args, None, SimpleNamespace(predict_with_generate=False), None, None

    def load_tokenizer(self, model_args: Any) -> dict[str, Any]:
        try:
            (Path(model_args.model_name_or_path) / "tokenizer.json").read_text()
        except Exception as error:
            raise OSError("Failed to load tokenizer.") from error
        try:
            processor = self.from_pretrained(model_args.model_name_or_path)
        except Exception:
            processor = None
        return {"tokenizer": object(), "processor": processor}

    @staticmethod
    def from_pretrained(path: str, **_: Any) -> Any:
        return (Path(path) / "preprocessor_config.json").read_text()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the modules importable."""
        modules: dict[str, dict[str, Any]] = {
            "llamafactory": {},
            "llamafactory.data": {"get_template_and_fix_tokenizer": None},
            "llamafactory.data.loader": {"_get_dataset_processor": None},
            "llamafactory.hparams": {"get_train_args": self.get_train_args},
            "llamafactory.model": {"load_tokenizer": self.load_tokenizer},
            "llamafactory.model.loader": {},
            "transformers": {"AutoProcessor": self},
        }
        for name, content in modules.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)


def refused_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str = "qwen3") -> str:
    Library(tmp_path).install(monkeypatch)
    with pytest.raises(PermanentError) as caught:
        tokenization._load_encoder({}, template)
    assert caught.value.reason == "InvalidModel"
    return caught.value.message


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_volume_in_trouble_is_no_bad_tokenizer_or_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for file in ("tokenizer.json", "preprocessor_config.json"):
        (tmp_path / file).symlink_to(UNREADABLE if file == name else "/dev/null")
    Library(tmp_path).install(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        tokenization._load_encoder({}, "qwen2_vl")


def test_why_tokenizer_and_processor_do_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tokenizer.json" in refused_model(tmp_path, monkeypatch)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "FileNotFoundError" in refused_model(tmp_path, monkeypatch, "qwen2_vl")
