"""Qwen SFT operator: fine-tunes Qwen models on Kubernetes with LLaMA-Factory.

The package is split into `api` (the QwenSFTJob resource), `plan` and `render` (pure logic) and `runtime` (kopf, I/O).
"""

__version__ = "0.1.0"
