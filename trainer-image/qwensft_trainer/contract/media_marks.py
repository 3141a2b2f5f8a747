"""What stands for images and videos in the text of a row: hundreds of equal tokens, which nobody reads one by one."""

from __future__ import annotations

import re

_REPEATED = re.compile(r"(<\|(?:image|video)_pad\|>)(?:\1)+")


def shortened(text: str) -> str:
    """The text with each run of such marks as one and their number: <|image_pad|>×256."""
    return _REPEATED.sub(lambda found: f"{found[1]}×{len(found[0]) // len(found[1])}", text)
