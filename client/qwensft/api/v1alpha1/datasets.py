"""`spec.datasets`: the training data, where it lies and how its rows are laid out.

Rows themselves are checked by the prepare stage; here stands only what can be said before any file is opened.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule, UniqueBy, argument, exactly_one_of
from .common import (
    ConfigKey,
    Endpoint,
    FilePath,
    LocalObjectReference,
    ObjectName,
    RepositoryName,
    Revision,
    SecretKeyRef,
    VolumeFile,
)

Format = Literal["alpaca", "sharegpt", "openai"]
ControlTokens = Literal["Warn", "Refuse"]
Column = Annotated[str, Field(min_length=1, max_length=128)]


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap; fit for examples and tests, as a ConfigMap holds 1 MiB at most."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the namespace of the job.")
    key: ConfigKey = Field(
        description="Key whose value is the file, such as train.json. Its ending tells the file type."
    )


class HubDataset(ApiModel):
    """A dataset repository on a hub, downloaded by the prepare stage."""

    rules = (
        Rule(
            cel="!has(self.path) || (!has(self.subset) && !has(self.split))",
            message="path names one file, and a split names many: remove path, or subset and split",
            check=lambda source: source.path is None or (source.subset is None and source.split is None),
            field=".path",
        ),
    )

    repo: RepositoryName = Field(description="Repository, as owner/name.")
    subset: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="Subset (configuration) of the dataset. Default: the only one, or the one named default.",
    )
    split: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Split of the dataset, such as train or test. Default: train.",
    )
    revision: Revision | None = Field(None, description="Branch, tag or commit. Default: the hub's main branch.")
    path: FilePath | None = Field(
        None,
        description="One file in the repository, such as data/train.jsonl, in place of a subset and split. Default: "
        "the files of the split.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        None,
        description="Secret with the access token, for gated or private datasets. Only the prepare pod sees it.",
    )
    endpoint: Endpoint | None = Field(
        None,
        description="Address of a mirror or a private hub that speaks the hub's protocol. Default: the public hub.",
    )


class UrlSource(ApiModel):
    """One file behind an address, fetched by the prepare stage."""

    rules = (
        Rule(
            cel="!has(self.endpoint) || self.url.startsWith('s3://')",
            message="endpoint is the address of an S3-compatible store: remove it, or use an s3:// address",
            check=lambda source: source.endpoint is None or source.url.startswith("s3://"),
            field=".endpoint",
        ),
    )

    url: str = Field(
        min_length=8,
        max_length=2048,
        pattern=r"^(https?|s3|gs)://[^\t\n\f\r /?#@]+/[^\t\n\f\r #]+$",
        description="Address of the file: https://, http://, s3://bucket/key or gs://bucket/key. Its ending tells the "
        "file type. Never with credentials in it: use credentialsSecretRef.",
    )
    credentials_secret_ref: LocalObjectReference | None = Field(
        None,
        description="Secret whose keys are credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN "
        "and AWS_REGION for s3; GOOGLE_APPLICATION_CREDENTIALS (a service account as JSON) for gs; AUTHORIZATION (the "
        "value of the header) for https. Only the prepare pod sees it. Default: anonymous access.",
    )
    endpoint: Endpoint | None = Field(
        None, description="Address of an S3-compatible store, such as https://minio.example.com. Default: that of AWS."
    )
    sha256: str | None = Field(
        None,
        min_length=64,
        max_length=64,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the file, in lower-case hex; another one is refused. Default: unchecked.",
    )


class DatasetSource(ApiModel):
    """Where the rows come from: exactly one member."""

    rules = (
        exactly_one_of(
            "volume",
            "config_map",
            "hugging_face",
            "model_scope",
            "url",
            example="configMap: {name: my-data, key: train.json}",
        ),
    )

    volume: VolumeFile | None = Field(None, description="A file on a volume, mounted read-only for the prepare stage.")
    config_map: ConfigMapKey | None = Field(None, description="A key of a ConfigMap (small data only).")
    hugging_face: HubDataset | None = Field(None, description="A dataset on the Hugging Face Hub.")
    model_scope: HubDataset | None = Field(None, description="A dataset on ModelScope.")
    url: UrlSource | None = Field(None, description="A file behind an http, https, s3 or gs address.")


class Columns(ApiModel):
    """Names of the columns that hold each part of an example.

    A name that no row has is refused. What else rows hold is not read, and a warning lists it.
    """

    prompt: Column | None = Field(None, description="alpaca: the user's instruction. Default: instruction.")
    query: Column | None = Field(
        None, description="alpaca: input that is appended to the instruction. Default: input, where rows have it."
    )
    response: Column | None = Field(None, description="alpaca: the model's answer. Default: output.")
    history: Column | None = Field(
        None,
        description="alpaca: earlier rounds, a list of [instruction, answer] pairs. Default: history, where rows "
        "have it.",
    )
    messages: Column | None = Field(
        None,
        description="sharegpt and openai: the list of messages. Default: conversations for sharegpt, messages for "
        "openai.",
    )
    system: Column | None = Field(None, description="The system prompt. Default: system, where rows have it.")
    tools: Column | None = Field(
        None, description="Description of the tools, as JSON. Default: tools, where rows have it."
    )
    images: Column | None = Field(
        None,
        description="Images of a row, for vision models, with one <image> in the text for each: names of files, "
        "relative to the data file or to the root of its source; data: URLs in base64; or bytes in Parquet. http "
        "addresses are refused. Default: images, where rows have it.",
    )
    videos: Column | None = Field(
        None,
        description="Videos of a row, for vision models, with one <video> in the text for each; given in the same "
        "ways as images. Default: videos, where rows have it.",
    )


class Tags(ApiModel):
    """sharegpt only: keys of a message and the names of the roles. Unset tags take LLaMA-Factory's defaults."""

    role: Column | None = Field(None, description="Key of a message that holds its role. Default: from.")
    content: Column | None = Field(None, description="Key of a message that holds its text. Default: value.")
    user: Column | None = Field(None, description="Role of the user. Default: human.")
    assistant: Column | None = Field(None, description="Role of the model. Default: gpt.")
    observation: Column | None = Field(None, description="Role of a tool's result. Default: observation.")
    function: Column | None = Field(None, description="Role of a tool call. Default: function_call.")
    system: Column | None = Field(None, description="Role of a system message. Default: system.")


# What a row cannot do without, and what the job names: neither may be left unread.
_READ = ", ".join(
    [
        "self.?columns.?prompt.orValue(self.format == 'alpaca' ? 'instruction' : '')",
        "self.?columns.?response.orValue(self.format == 'alpaca' ? 'output' : '')",
        "self.?columns.?messages.orValue(self.format == 'openai' ? 'messages' : self.format == 'sharegpt' ? "
        "'conversations' : '')",
        "self.?tags.?role.orValue(self.format == 'openai' ? 'role' : self.format == 'sharegpt' ? 'from' : '')",
        "self.?tags.?content.orValue(self.format == 'openai' ? 'content' : self.format == 'sharegpt' ? 'value' : '')",
        *(f"self.?columns.?{part}.orValue('')" for part in ("query", "history", "system", "tools", "images", "videos")),
    ]
)
_REQUIRED = {
    "alpaca": {"prompt": "instruction", "response": "output"},
    "sharegpt": {"messages": "conversations", "role": "from", "content": "value"},
    "openai": {"messages": "messages", "role": "role", "content": "content"},
}


def _read(dataset: Dataset) -> set[str]:
    columns = dataset.columns.document() if dataset.columns else {}
    tags = dataset.tags.document() if dataset.tags else {}
    keys = {part: name for part, name in tags.items() if part in ("role", "content")}
    return {*(_REQUIRED[dataset.format] | columns | keys).values()}


def _columns_fit(dataset: Dataset) -> bool:
    columns = dataset.columns
    if columns is None:
        return True
    if dataset.format == "alpaca":
        return columns.messages is None
    return all(name is None for name in (columns.prompt, columns.query, columns.response, columns.history))


class Dataset(ApiModel):
    """One dataset. Several become one as training.mixStrategy says."""

    rules = (
        Rule(
            cel="!has(self.columns) || self.format != 'alpaca' || !has(self.columns.messages)",
            message="format alpaca has no messages column: use prompt, query, response and history, or set format: "
            "sharegpt",
            check=lambda dataset: dataset.format != "alpaca" or _columns_fit(dataset),
            field=".columns",
        ),
        Rule(
            cel="!has(self.columns) || self.format == 'alpaca' || !(has(self.columns.prompt) || "
            "has(self.columns.query) || has(self.columns.response) || has(self.columns.history))",
            message="formats sharegpt and openai have no prompt, query, response or history columns: use messages, or "
            "set format: alpaca",
            check=lambda dataset: dataset.format == "alpaca" or _columns_fit(dataset),
            field=".columns",
        ),
        Rule(
            cel="!has(self.tags) || self.format == 'sharegpt'",
            message="tags name the roles of a conversation in format sharegpt: remove them, or set format: sharegpt",
            check=lambda dataset: dataset.tags is None or dataset.format == "sharegpt",
            field=".tags",
        ),
        Rule(
            cel=f"!has(self.ignore) || !self.ignore.exists(name, name in [{_READ}])",
            message="ignore names a column or key that rows are read from: take it out of ignore, or out of columns",
            check=lambda dataset: not {*dataset.ignore} & _read(dataset),
            field=".ignore",
        ),
    )

    name: str = Field(
        min_length=1,
        max_length=40,
        pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$",
        description="Name of the dataset, unique in the job. It is the directory /datasets/<name> and the name in "
        "dataset_info.json.",
        json_schema_extra=argument("dataset"),
    )
    format: Format = Field(
        description="Layout of a row: alpaca (instruction, input, output), sharegpt (conversations of from and value) "
        "or openai (messages of role and content)."
    )
    source: DatasetSource = Field(description="Where the rows come from: exactly one member.")
    columns: Columns | None = Field(
        None, description="Names of the columns, where they differ from the format's usual ones."
    )
    tags: Tags | None = Field(None, description="sharegpt only: keys and role names of messages, where they differ.")
    control_tokens: ControlTokens | None = Field(
        None,
        description="What becomes of rows whose texts hold control tokens of the template, such as <|im_end|>: Warn "
        "trains on them and says how many there are, Refuse ends the preparation. Default: Warn.",
    )
    ignore: list[Column] = Field(
        [],
        max_length=32,
        description="Columns, and keys of messages, that nothing shall read, whatever their names mean elsewhere: such "
        "as weight, where it is that of a product, or label. Default: what docs/data.md says of each name.",
    )
    sample_count: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Number of rows to draw; more than the file has repeats rows. Default: every row once.",
    )
    weight: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Share of this dataset in the mix, relative to the weights of the others; give one to every "
        "training dataset or to none. Default: every row of every dataset counts once.",
        json_schema_extra=argument("interleave_probs"),
    )

    @property
    def has_media(self) -> bool:
        """Whether a column of images or videos is named."""
        return self.columns is not None and (self.columns.images is not None or self.columns.videos is not None)


Datasets = Annotated[list[Dataset], Field(min_length=1, max_length=32), UniqueBy("name")]
