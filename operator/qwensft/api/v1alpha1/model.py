"""`spec.model`: which base model is tuned, where its files come from, and how LLaMA-Factory loads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import ApiModel, Rule, argument, exactly_one_of
from .common import SecretKeyRef, VolumePath
from .families import FAMILIES, family_pattern, infer_template

Template = Literal["qwen", "qwen3", "qwen3_nothink"]
Attention = Literal["auto", "fa2", "sdpa", "eager"]

_ANY_FAMILY = family_pattern(*FAMILIES)
_HYBRID = family_pattern("qwen3")


class HubSource(ApiModel):
    """A repository on a model hub, downloaded once by the prepare stage onto the job's volume."""

    repo: str | None = Field(
        None,
        min_length=3,
        max_length=256,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Repository, as owner/name. Default: model.name.",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Branch, tag or commit. Name a commit to get the same files every time. Default: the hub's main "
        "branch.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        None,
        description="Secret with the access token, for gated or private repositories. Only the prepare pod sees it.",
    )


class ModelSource(ApiModel):
    """Where the files of the base model come from: exactly one member."""

    rules = (
        exactly_one_of("hugging_face", "model_scope", "volume", example="volume: {claimName: models, path: Qwen3-8B}"),
    )

    hugging_face: HubSource | None = Field(None, description="Download from the Hugging Face Hub.")
    model_scope: HubSource | None = Field(None, description="Download from ModelScope.")
    volume: VolumePath | None = Field(
        None,
        description="A directory on a volume, with config.json, tokenizer and weights. Mounted read-only, not copied.",
    )


def _repository_is_known(model: Model) -> bool:
    source = model.source
    hub = (source.hugging_face or source.model_scope) if source else HubSource()
    return hub is None or hub.repo is not None or "/" in model.name


class Model(ApiModel):
    """The base model."""

    rules = (
        Rule(
            cel=f"has(self.template) || self.name.matches(r'{_ANY_FAMILY}')",
            message="the name tells no Qwen text family, so set model.template: qwen (Qwen2, Qwen2.5, Coder, Math, "
            "QwQ), qwen3 (Qwen3 base, hybrid and Thinking) or qwen3_nothink (Qwen3 Instruct-2507, Next-Instruct, "
            "Coder)",
            check=lambda model: model.template is not None or infer_template(model.name) is not None,
            field=".template",
        ),
        Rule(
            cel="!has(self.enableThinking) || (has(self.template) ? self.template == 'qwen3'"
            f" : self.name.matches(r'{_HYBRID}'))",
            message="enableThinking applies to the template qwen3 only: remove enableThinking",
            check=lambda model: model.enable_thinking is None or model.effective_template == "qwen3",
            field=".enableThinking",
        ),
        Rule(
            cel="self.name.contains('/') || (has(self.source) && (has(self.source.volume)"
            " || (has(self.source.huggingFace) && has(self.source.huggingFace.repo))"
            " || (has(self.source.modelScope) && has(self.source.modelScope.repo))))",
            message="the name has no owner, so it is no hub repository: write owner/name, for example Qwen/Qwen3-8B, "
            "or set model.source.huggingFace.repo, modelScope.repo or volume",
            check=_repository_is_known,
            field=".name",
        ),
    )

    name: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$",
        description="Name of the base model, such as Qwen/Qwen3-8B. It is the hub repository unless model.source says "
        "otherwise, and it tells the chat template.",
    )
    source: ModelSource | None = Field(
        None, description="Where the files come from: exactly one member. Default: huggingFace, repository model.name."
    )
    template: Template | None = Field(
        None,
        description="Chat template: qwen (Qwen2, Qwen2.5, Coder, Math, QwQ), qwen3 (Qwen3 base, hybrid and Thinking) "
        "or qwen3_nothink (Qwen3 Instruct-2507, Next-Instruct, Coder). Default: inferred from model.name.",
        json_schema_extra=argument("template"),
    )
    enable_thinking: bool | None = Field(
        None,
        description="Whether a hybrid Qwen3 model is trained in thinking mode; use the same mode for inference. Only "
        "with template qwen3. Default: LLaMA-Factory's, true.",
        json_schema_extra=argument("enable_thinking"),
    )
    attention: Attention = Field(
        "auto",
        description="Attention kernel: auto (the best installed one), fa2 (FlashAttention-2, GPU with bf16 or fp16 "
        "only), sdpa (PyTorch's), eager (plain).",
        json_schema_extra=argument("flash_attn"),
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code that comes with the model. Qwen models need none: leave it off unless you trust "
        "the repository as you trust your own code.",
        json_schema_extra=argument("trust_remote_code"),
    )

    @property
    def effective_template(self) -> str:
        """The template given, else the one that the name tells; a valid model always has one."""
        template = self.template or infer_template(self.name)
        if template is None:
            raise ValueError(f"no template known for {self.name!r}")
        return template

    @property
    def effective_source(self) -> ModelSource:
        """The source given, else the Hugging Face Hub."""
        return self.source or ModelSource(hugging_face=HubSource())
