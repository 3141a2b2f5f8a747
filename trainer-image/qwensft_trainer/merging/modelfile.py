"""The Modelfile by which Ollama runs a merged model that reads text alone."""

from __future__ import annotations

from qwensft_trainer.merging.endings import END
from qwensft_trainer.model import families

FILE_NAME = "Modelfile"
_TEMPLATES = frozenset({"qwen", "qwen3", "qwen3_nothink"})

# .System has the system prompts put together; .Messages has them, too.
_CONVERSATION = """\
{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ range .Messages }}{{ if or (eq .Role "user") (eq .Role "assistant") }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
_QUOTES = '"""'
_NO_THOUGHTS = "<think>\n\n</think>\n\n"


def modelfile(template: str, *, thinking: bool, system: str) -> str | None:
    """The file's text; None for a template of LLaMA-Factory's whose models Ollama is not told of.

    `system` is the system prompt of conversations that bring none, as the base's chat template has it. One with the
    file's own quotes cannot be written: what follows them would be a command.
    """
    if template not in _TEMPLATES or _QUOTES in system:
        return None
    prompt = _CONVERSATION + ("" if thinking or template not in families.REASONING else _NO_THOUGHTS)
    parts = ["FROM .", f'TEMPLATE """{prompt}"""']
    if system:
        parts.append(f'SYSTEM """{system}"""')
    return "\n\n".join([*parts, f'PARAMETER stop "{END}"\nPARAMETER num_ctx 4096\n'])
