"""Prints every argument that LLaMA-Factory takes from a YAML file, with its type, as known_arguments.yaml holds it.

    python tests/unit/operator/render/list_arguments.py SITE_PACKAGES >tests/unit/operator/render/known_arguments.yaml

SITE_PACKAGES is where llamafactory and transformers are installed, such as the trainer image's
/opt/qwensft/lib/python3.11/site-packages. Their sources are read, not imported, so it takes no torch and a second.
ADR 0054 says why.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# llamafactory.hparams.parser: _TRAIN_ARGS and _INFER_ARGS (the latter is what `llamafactory-cli export` parses).
TRAIN = ("ModelArguments", "DataArguments", "TrainingArguments", "FinetuningArguments", "GeneratingArguments")
EXPORT = ("ModelArguments", "DataArguments", "FinetuningArguments", "GeneratingArguments")
# Named otherwise where llamafactory imports them.
ALIASES = {"BaseTrainingArguments": "Seq2SeqTrainingArguments"}
ENUMS = {
    "AttentionFunction": "llamafactory/extras/constants.py",
    "EngineName": "llamafactory/extras/constants.py",
    "QuantizationMethod": "llamafactory/extras/constants.py",
    "RopeScaling": "llamafactory/extras/constants.py",
    "SchedulerType": "transformers/trainer_utils.py",
    "IntervalStrategy": "transformers/trainer_utils.py",
    "SaveStrategy": "transformers/trainer_utils.py",
    "HubStrategy": "transformers/trainer_utils.py",
}


class Sources:
    """The classes of some source files, by name. Of two classes with one name, transformers' is kept apart."""

    def __init__(self, packages: Path) -> None:
        self.packages = packages
        self.classes: dict[str, ast.ClassDef] = {}
        for name in ("training_args.py", "training_args_seq2seq.py"):
            self._read(packages / "transformers" / name)
        self.transformers = self.classes.pop("TrainingArguments")
        for path in sorted((packages / "llamafactory" / "hparams").glob("*_args.py")):
            self._read(path)

    def _read(self, path: Path) -> None:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node

    def arguments(self, name: str) -> dict[str, str]:
        """Return the fields of a dataclass and of its bases: name -> type."""
        return dict(self._fields(self.classes[ALIASES.get(name, name)]))

    def _fields(self, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        for base in node.bases:
            name = ALIASES.get(ast.unparse(base), ast.unparse(base))
            if name == "TrainingArguments" and node.name == "Seq2SeqTrainingArguments":
                yield from self._fields(self.transformers)
            elif name in self.classes:
                yield from self._fields(self.classes[name])
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and not self._is_no_argument(statement):
                yield ast.unparse(statement.target), self._type(statement.annotation)

    @staticmethod
    def _is_no_argument(statement: ast.AnnAssign) -> bool:
        """A class variable, or a field with init=False, which the parser does not offer."""
        return ast.unparse(statement.annotation).startswith("ClassVar") or "init=False" in ast.unparse(statement)

    def _type(self, annotation: ast.expr) -> str:
        text = str(annotation.value) if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
        for name, path in ENUMS.items():
            if name in text:
                values = self._values(name, path)
                text = text.replace(name, f"Literal{values}")
        return text

    def _values(self, name: str, path: str) -> list[str]:
        module = ast.parse((self.packages / path).read_text(encoding="utf-8"))
        (node,) = (item for item in module.body if isinstance(item, ast.ClassDef) and item.name == name)
        values = [item.value for item in node.body if isinstance(item, ast.Assign)]
        return [str(ast.literal_eval(value)) for value in values]


def main() -> None:
    """Write the YAML document to standard output."""
    packages = Path(sys.argv[1])
    sources = Sources(packages)
    installed = sorted(path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
    versions = [name for name in installed if name.split("-")[0] in ("llamafactory", "transformers")]
    lines = [
        f"# The arguments of {' and '.join(versions)}: name, and type as in its source. Enumerations are",
        "# spelled out. Written by list_arguments.py beside this file, which says how; do not edit.",
    ]
    for command, groups in (("train", TRAIN), ("export", EXPORT)):
        fields = {name: kind for group in groups for name, kind in sources.arguments(group).items()}
        quoted = {name: kind.replace('"', "'") for name, kind in sorted(fields.items())}
        lines += [f"{command}:", *(f'  {name}: "{kind}"' for name, kind in quoted.items())]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
