"""Addresses as logs and messages may show them."""

from __future__ import annotations

import re

_QUERY = re.compile(r"(\w+://[^\s'\"?]+)\?[^\s'\"]*")


def without_queries(text: str) -> str:
    """`text` without the queries of the addresses in it: signed addresses carry their secret there."""
    return _QUERY.sub(r"\1", text)
