"""Files of manifests as kubectl reads them: several documents, 1e-4 is a number, no key stands twice."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import KIND
from qwensft.cli.failures import CommandError
from qwensft.client.rows import ending_of

Document = dict[str, Any]

_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """As sigs.k8s.io/yaml: a number may have an exponent and no point, a date is text, a key stands once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]  # before << is resolved
        twice = next((key for key, times in Counter(keys).items() if times > 1), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"the key {twice} stands twice", problem_mark=node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class Manifests:
    """The objects of a file, in its order."""

    path: str
    documents: tuple[Document, ...]

    @property
    def jobs(self) -> list[Document]:
        """The QwenSFTJobs among them."""
        return [document for document in self.documents if document.get("kind") == KIND]

    @property
    def others(self) -> list[Document]:
        """What stands beside: ConfigMaps with rows, for example."""
        return [document for document in self.documents if document.get("kind") != KIND]

    def config_map(self, name: str, key: str) -> str | None:
        """Return a text out of a ConfigMap in the same file; None when there is none."""
        for document in self.others:
            if document.get("kind") == "ConfigMap" and metadata_of(document).get("name") == name:
                data = document.get("data")
                text = data.get(key) if isinstance(data, dict) else None
                return text if isinstance(text, str) else None
        return None


def metadata_of(document: Document) -> Document:
    """Return the metadata of an object as it stands in a file, where it may be anything."""
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def read(path: str) -> Manifests:
    """Read a file of manifests; - is the standard input.

    Raises:
        CommandError: it cannot be read, is no YAML, or has no QwenSFTJob in it.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"there is no file {path}; make one with: qwensft init") from None
    except IsADirectoryError:
        raise CommandError(f"{path} is a directory; name a file in it") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8; save it as that") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise CommandError(f"{path}{line}: {error.problem or error.context}{_hint(path)}") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is no YAML: {error}") from None
    if not all(isinstance(document, dict) for document in documents):
        raise CommandError(f"{path}: each document must be an object with apiVersion and kind{_hint(path)}")
    manifests = Manifests("standard input" if path == "-" else path, tuple(documents))
    if not manifests.jobs:
        kinds = ", ".join(sorted({str(document.get("kind") or "no kind") for document in documents}))
        raise CommandError(
            f"{manifests.path} has no {KIND} in it{f', but {kinds}' if kinds else ''}; make one with: qwensft init"
        )
    return manifests


def _hint(path: str) -> str:
    """What may have been meant by a file that is no manifest."""
    return "; FILE is a job: rows are named by --rows DATASET=FILE" if ending_of(path) else ""
