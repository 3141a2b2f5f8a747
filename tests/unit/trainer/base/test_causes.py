"""What is the machine's, the volume's or the network's trouble is found below whatever a library has made of it."""

from __future__ import annotations

import errno
import os

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from qwensft_trainer.base.causes import raise_unless_inputs


def wrapped(error: Exception) -> Exception:
    """As libraries do it: once with a cause, once in passing."""
    try:
        try:
            try:
                raise error
            except Exception as inner:
                raise OSError("Failed to load tokenizer.") from inner
        except OSError:
            raise ValueError("another way did not work either")  # noqa: B904
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EACCES)),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ConnectionError("refused"),
        TimeoutError("timed out"),
        MemoryError(),
    ],
    ids=repr,
)
def test_trouble_is_raised_as_it_was(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        raise_unless_inputs(wrapped(error))
    assert caught.value is error


def test_trouble_is_known_in_the_words_of_rust() -> None:
    with pytest.raises(OSError, match="Stale file handle") as caught:
        raise_unless_inputs(wrapped(Exception("I/O error: Stale file handle (os error 116)")))
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "tokenizer.json"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        OSError("There was a specific connection error when trying to load the model"),
        OfflineModeIsEnabled("offline mode is enabled"),
        Exception("No such file or directory (os error 2)"),
        KeyError("model"),
    ],
    ids=repr,
)
def test_what_the_inputs_say_of_themselves_is_no_trouble(error: Exception) -> None:
    raise_unless_inputs(wrapped(error))
