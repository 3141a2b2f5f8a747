"""Qwen SFT operator: fine-tunes Qwen models on Kubernetes with LLaMA-Factory.

`plan` and `render` are pure logic on the QwenSFTJob of the package `qwensft`; `runtime` is kopf and all I/O.
"""

__version__ = "0.2.0"
