"""`spec.datasets`: the training data, where it lies and how its rows are laid out.

Rows themselves are checked by the prepare stage; here stands only what can be said before any file is opened.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel, Rule, UniqueBy, argument, exactly_one_of
from .common import ConfigKey, ObjectName, VolumeFile

Format = Literal["alpaca", "sharegpt"]
Column = Annotated[str, Field(min_length=1, max_length=128)]


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap; fit for examples and tests, as a ConfigMap holds 1 MiB at most."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the namespace of the job.")
    key: ConfigKey = Field(
        description="Key whose value is the file, such as train.json. Its ending tells the file type."
    )


class DatasetSource(ApiModel):
    """Where the rows come from: exactly one member."""

    rules = (exactly_one_of("volume", "config_map", example="configMap: {name: my-data, key: train.json}"),)

    volume: VolumeFile | None = Field(None, description="A file on a volume, mounted read-only for the prepare stage.")
    config_map: ConfigMapKey | None = Field(None, description="A key of a ConfigMap (small data only).")


class Columns(ApiModel):
    """Names of the columns that hold each part of an example. A column that is not named is not read."""

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
    messages: Column | None = Field(None, description="sharegpt: the list of messages. Default: conversations.")
    system: Column | None = Field(None, description="The system prompt. Default: system, where rows have it.")
    tools: Column | None = Field(
        None, description="Description of the tools, as JSON. Default: tools, where rows have it."
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


def _columns_fit(dataset: Dataset) -> bool:
    columns = dataset.columns
    if columns is None:
        return True
    if dataset.format == "alpaca":
        return columns.messages is None
    return all(name is None for name in (columns.prompt, columns.query, columns.response, columns.history))


class Dataset(ApiModel):
    """One dataset. Several are concatenated, in the order given."""

    rules = (
        Rule(
            cel="!has(self.columns) || self.format != 'alpaca' || !has(self.columns.messages)",
            message="format alpaca has no messages column: use prompt, query, response and history, or set format: "
            "sharegpt",
            check=lambda dataset: dataset.format != "alpaca" or _columns_fit(dataset),
            field=".columns",
        ),
        Rule(
            cel="!has(self.columns) || self.format != 'sharegpt' || !(has(self.columns.prompt) || "
            "has(self.columns.query) || has(self.columns.response) || has(self.columns.history))",
            message="format sharegpt has no prompt, query, response or history columns: use messages, or set format: "
            "alpaca",
            check=lambda dataset: dataset.format != "sharegpt" or _columns_fit(dataset),
            field=".columns",
        ),
        Rule(
            cel="!has(self.tags) || self.format == 'sharegpt'",
            message="tags name the roles of a conversation: remove them, or set format: sharegpt",
            check=lambda dataset: dataset.tags is None or dataset.format == "sharegpt",
            field=".tags",
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
        description="Layout of a row: alpaca (instruction, input, output) or sharegpt (a list of messages). "
        "OpenAI-style messages (role, content) are sharegpt with tags {role: role, content: content, user: user, "
        "assistant: assistant}."
    )
    source: DatasetSource = Field(description="Where the rows come from: exactly one member.")
    columns: Columns | None = Field(
        None, description="Names of the columns, where they differ from the format's usual ones."
    )
    tags: Tags | None = Field(None, description="sharegpt only: keys and role names of messages, where they differ.")
    sample_count: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Number of rows to draw; more than the file has repeats rows. Default: every row once.",
        json_schema_extra=argument("num_samples"),
    )


Datasets = Annotated[list[Dataset], Field(min_length=1, max_length=32), UniqueBy("name")]
