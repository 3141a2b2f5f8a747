"""What an API server makes of a JSON patch, as far as the operator sends any."""

from __future__ import annotations

import copy

from qwensft_operator.runtime.kube import Manifest, Patch, classify


def patched(document: Manifest, operations: Patch) -> Manifest:
    """Apply RFC 6902's `test` and `add` to members of objects.

    Raises:
        InvalidError: A test fails.
    """
    result = copy.deepcopy(document)
    for operation in operations:
        *path, last = operation["path"].removeprefix("/").split("/")
        parent = result
        for name in path:
            parent = parent[name]
        if operation["op"] == "add":
            parent[last] = operation["value"]
            continue
        assert operation["op"] == "test", f"nobody has taught this API server to {operation['op']}"
        if parent.get(last) != operation["value"]:
            words = f"testing value {operation['path']} failed: test failed"
            raise classify(422, {"reason": "Invalid", "message": words})
    return result
