"""`spec.model`: which base model is tuned, where its files come from, and how LLaMA-Factory loads it.

ADR 0027 says why.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule, argument, exactly_one_of
from .common import Endpoint, ImageReference, RelativePath, RepositoryName, Revision, RunName, SecretKeyRef, VolumePath
from .families import (
    FAMILIES,
    NOT_YET,
    REASONING,
    VISION,
    Family,
    family_pattern,
    find_family,
    infer_template,
    is_not_yet_known,
)

Template = Literal[
    "qwen",
    "qwen3",
    "qwen3_nothink",
    "qwen2_vl",
    "qwen3_vl",
    "qwen3_vl_nothink",
    "qwen3_5",
    "qwen3_5_nothink",
    "qwen3_6",
]
Attention = Literal["auto", "fa2", "sdpa", "eager"]


def _thinks_always(family: Family) -> bool:
    """Of QwQ and QVQ enableThinking says nothing: their templates do not know it."""
    return family.thinking == "always" and family.template in REASONING


_ALWAYS_THINKING = family_pattern(family for family in FAMILIES if _thinks_always(family))
_PLAIN_FAMILY = family_pattern(family for family in FAMILIES if family.template not in REASONING)

Token = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x20,]([^\x00-\x1f,]*[^\x00-\x20,])?$")]
"""A token of the vocabulary. LLaMA-Factory splits lists of them at commas and trims blanks."""


class HubSource(ApiModel):
    """A repository on a model hub, downloaded once by the prepare stage onto the job's volume."""

    repo: RepositoryName | None = Field(None, description="Repository, as owner/name. Default: model.name.")
    revision: Revision | None = Field(
        None,
        description="Branch, tag or commit. Name a commit to get the same files every time. Default: the hub's main "
        "branch.",
    )
    endpoint: Endpoint | None = Field(
        None,
        description="Address of a mirror or a private hub that speaks the hub's protocol, such as "
        "https://hub.example.com. Default: the public hub.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        None,
        description="Secret with the access token, for gated or private repositories. Only the prepare pod sees it.",
    )


class ImageSource(ApiModel):
    """An OCI image or artifact whose files are the model; the kubelet mounts it read-only, so nothing is copied."""

    reference: ImageReference = Field(
        description="Reference of the image, such as registry.example.com/models/qwen3-8b:1. Needs image volumes: on "
        "by default since Kubernetes 1.35.",
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="When nodes pull the image. Default: Always for the tag latest, else IfNotPresent."
    )
    path: RelativePath = Field(
        "", description="Directory of the model below the root of the image. Default: the root itself."
    )


class RunSource(ApiModel):
    """A run of the same namespace, whose merged model is trained on: mounted read-only from its volume, not copied."""

    name: RunName = Field(
        description="Name of the QwenSFTJob. Its merged model is used once it has succeeded, whichever of the two is "
        "created first; status.sourceRun holds which model that was, for all attempts.",
    )


class AdapterRun(ApiModel):
    """A run of the same namespace, whose adapter is trained on: prepare copies it; no other pod needs its volume."""

    name: RunName = Field(
        description="Name of the QwenSFTJob. Its adapter is used once it has succeeded, whichever of the two is "
        "created first; status.adapterRun holds which adapter that was, for all attempts.",
    )


class ModelAdapter(ApiModel):
    """An adapter of the base that is trained on, in place of a new one."""

    run: AdapterRun = Field(
        description="The run that has trained it, on the same base. model.addTokens and tuning must say of the adapter "
        "what they say there: method (lora and qlora are alike), lora and vision. Of a run with PiSSA, the adapter is "
        "a plain one with twice its rank and alpha.",
    )


class ModelSource(ApiModel):
    """Where the files of the base model come from: exactly one member."""

    rules = (
        exactly_one_of(
            "hugging_face",
            "model_scope",
            "volume",
            "image",
            "run",
            example="volume: {claimName: models, path: Qwen3-8B}",
        ),
    )

    hugging_face: HubSource | None = Field(None, description="Download from the Hugging Face Hub.")
    model_scope: HubSource | None = Field(None, description="Download from ModelScope.")
    volume: VolumePath | None = Field(
        None,
        description="A directory on a volume, with config.json, tokenizer and weights. Mounted read-only, not copied.",
    )
    image: ImageSource | None = Field(None, description="An OCI image, mounted read-only as a volume.")
    run: RunSource | None = Field(
        None,
        description="The merged model of another run, to train on. Its volume is mounted read-only in the pods of "
        "this run, which have to reach it.",
    )


def _repository_is_known(model: Model) -> bool:
    return model.hub is None or model.hub.repo is not None or "/" in model.name


def _thinking_fits(model: Model) -> bool:
    template = model.effective_template
    return model.enable_thinking is None or template is None or template in REASONING


class Model(ApiModel):
    """The base model."""

    rules = (
        Rule(
            cel=f"!has(self.enableThinking) || (has(self.template) ? self.template in {list(REASONING)}"
            f" : !self.name.matches(r'{_PLAIN_FAMILY}'))",
            message=f"enableThinking applies to the templates {', '.join(REASONING)} only: remove enableThinking",
            check=_thinking_fits,
            field=".enableThinking",
        ),
        Rule(
            cel=f"self.?enableThinking.orValue(true) || !self.name.matches(r'{_ALWAYS_THINKING}')",
            message="the model always thinks, and cannot be asked otherwise: remove enableThinking: false, or use an "
            "Instruct or a hybrid model",
            check=lambda model: (
                model.enable_thinking is not False
                or (family := find_family(model.name)) is None
                or not _thinks_always(family)
            ),
            field=".enableThinking",
        ),
        Rule(
            cel=f"!self.name.matches(r'{NOT_YET}')",
            message="Qwen3.8 is not known to LLaMA-Factory 0.9.5, which this version trains with: use Qwen3.6 or "
            "Qwen3.5 until a newer release is in the trainer image",
            check=lambda model: not is_not_yet_known(model.name),
            field=".name",
        ),
        Rule(
            cel="!has(self.cache) || !has(self.source) || has(self.source.huggingFace) || has(self.source.modelScope)",
            message="only downloads are cached: remove model.cache, as a volume, an image or a run's model is used "
            "where it is",
            check=lambda model: model.cache is None or model.hub is not None,
            field=".cache",
        ),
        Rule(
            cel="self.name.contains('/') || (has(self.source) && (has(self.source.volume) || has(self.source.image)"
            " || has(self.source.run) || (has(self.source.huggingFace) && has(self.source.huggingFace.repo))"
            " || (has(self.source.modelScope) && has(self.source.modelScope.repo))))",
            message="the name has no owner, so it is no hub repository: write owner/name, for example Qwen/Qwen3-8B, "
            "or set model.source.huggingFace.repo, modelScope.repo, volume, image or run",
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
        json_schema_extra=argument("model_name_or_path"),
    )
    source: ModelSource | None = Field(
        None, description="Where the files come from: exactly one member. Default: huggingFace, repository model.name."
    )
    adapter: ModelAdapter | None = Field(
        None,
        description="An adapter to train on: the training goes on with its weights, and the merge adds it to the base "
        "once. Only with the methods lora, qlora and dora. Default: a new adapter.",
    )
    cache: VolumePath | None = Field(
        None,
        description="Directory on a volume that jobs share: each model is downloaded into it once, under a lock, and "
        "used from there. Only with a hub as the source. Default: the model is downloaded onto the run's own volume.",
    )
    template: Template | None = Field(
        None,
        description="Chat template: qwen (Qwen2, Qwen2.5, Coder, Math, QwQ), qwen3 (Qwen3 base, hybrid, Thinking), "
        "qwen3_nothink (Qwen3 Instruct-2507, Coder), qwen2_vl (Qwen2-VL, Qwen2.5-VL, QVQ), qwen3_vl (Qwen3-VL "
        "Thinking), qwen3_vl_nothink (Qwen3-VL Instruct), qwen3_5 or qwen3_5_nothink (Qwen3.5), qwen3_6 (Qwen3.6). "
        "Default: inferred from model.name or, in the prepare stage, from the model's own files.",
        json_schema_extra=argument("template"),
    )
    enable_thinking: bool | None = Field(
        None,
        description="Whether a model that can think is trained in thinking mode; use the same mode for inference. Only "
        "with the templates qwen3, qwen3_vl, qwen3_5 and qwen3_6. Default: LLaMA-Factory's, true.",
        json_schema_extra=argument("enable_thinking"),
    )
    add_tokens: list[Token] = Field(
        [],
        max_length=256,
        description="Tokens to add to the vocabulary; the embeddings grow, are trained and are merged with them.",
        json_schema_extra=argument("add_tokens", "resize_vocab"),
    )
    add_special_tokens: list[Token] = Field(
        [],
        max_length=256,
        description="Special tokens to add to the vocabulary, such as <|note|>: never split, and left out of decoded "
        "text.",
        json_schema_extra=argument("add_special_tokens", "resize_vocab"),
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
    def effective_template(self) -> str | None:
        """The template given, else the one that the name tells; None leaves it to prepare, which reads the model."""
        return self.template or infer_template(self.name)

    @property
    def effective_source(self) -> ModelSource:
        """The source given, else the Hugging Face Hub."""
        return self.source or ModelSource(hugging_face=HubSource())

    @property
    def hub(self) -> HubSource | None:
        """The hub repository that prepare downloads; None for a volume, an image or a run."""
        return self.effective_source.hugging_face or self.effective_source.model_scope

    @property
    def adds_tokens(self) -> bool:
        """Whether the vocabulary grows."""
        return bool(self.add_tokens or self.add_special_tokens)

    @property
    def is_text_model(self) -> bool:
        """Whether template or name tell that the model sees no images; False as well where they tell nothing."""
        return self.effective_template is not None and self.effective_template not in VISION
