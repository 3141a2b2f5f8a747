"""Qwen SFT operator: fine-tunes Qwen models on Kubernetes with LLaMA-Factory.

The package is split into `api` (the QwenSFTJob resource), `plan` and `render` (pure logic) and `runtime` (kopf, I/O).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qwen-sft-operator")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0.0.0"
