"""Whether an exception tells of the inputs, or of the machine, the volume or the network, which may soon be well again.

Libraries wrap what they catch, so the whole chain of causes is looked at. Nothing of the second kind may end a run for
good (exit code 78), whatever the code around it takes it for.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

# What a volume, or the server behind it, answers when it is in trouble.
STORAGE_ERRNOS = frozenset(
    {
        *(errno.EIO, errno.ENXIO, errno.ENODEV, errno.EROFS, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),
        *(errno.EHOSTUNREACH, errno.ESTALE, errno.EREMOTEIO),
    }
)
STORAGE_ADVICE = "The volume, or the server behind it, failed: it is tried again. If that repeats, look at the storage."

# What a path says of itself: it leads nowhere, or to a thing of another kind.
_ABOUT_THE_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
_OF_RUST = re.compile(r"\(os error (\d+)\)")


def is_about_the_path(error: OSError) -> bool:
    """Whether the error says that there is no such file, and not that it could not be looked for."""
    return error.errno in _ABOUT_THE_PATH


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def raise_unless_inputs(error: Exception) -> None:
    """Raise what in the chain of `error` tells of the machine, the volume or the network; return if nothing does."""
    for one in chain(error):
        if isinstance(one, MemoryError | TimeoutError) or (isinstance(one, OSError) and _is_trouble(one)):
            raise one
        # tokenizers and safetensors raise exceptions of their own, with the text of Rust's.
        found = _OF_RUST.search(str(one)) if not isinstance(one, OSError) else None
        if found is not None and (number := int(found[1])) not in _ABOUT_THE_PATH:
            raise OSError(number, os.strerror(number)) from one


def _is_trouble(error: OSError) -> bool:
    """Libraries raise OSErrors without a number, too: for a file they do not like, or because they are set offline."""
    if error.errno is None:
        return isinstance(error, ConnectionError) and type(error).__name__ != "OfflineModeIsEnabled"
    return error.errno not in _ABOUT_THE_PATH
