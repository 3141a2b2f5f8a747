"""The stages of a fine-tuning run as they execute inside a pod: prepare, train, merge.

Nothing here talks to Kubernetes. What a stage is to do stands in mounted files (see contract/config.py); what became of
it is told by the exit code, the termination message and files on the volume.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qwensft-trainer")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0.0.0"
