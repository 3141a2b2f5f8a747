"""Structured logs: one JSON object a line, with the run that a line is about. Frameworks are kept quiet."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from qwensft_operator.plan.text import clean

_LONGEST = 1 << 16  # characters of a message; answers of the API server and its webhooks are anybody's text

_about: ContextVar[tuple[str, str] | None] = ContextVar("about", default=None)

# kopf tells of every watch stream and handler at INFO; our own lines say what matters about a run.
_QUIET = {"kopf": logging.WARNING, "aiohttp.access": logging.WARNING, "asyncio": logging.WARNING}


@contextlib.contextmanager
def about(key: tuple[str, str]) -> Iterator[None]:
    """Mark all log lines inside as being about the run of that namespace and name."""
    token = _about.set(key)
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a record; namespace, name, stage and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage(), _LONGEST),
        }
        key = _about.get()
        if key is not None:
            line |= {"namespace": key[0], "name": key[1]}
        stage = getattr(record, "stage", None)
        if stage is not None:
            line["stage"] = stage
        if record.exc_info:
            line["error"] = clean(self.formatException(record.exc_info), _LONGEST)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; exceptions follow on further lines."""
        key = _about.get()
        where = f"{key[0]}/{key[1]}: " if key else ""
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        text = f"{when} {record.levelname:<7} {where}{record.getMessage()}"
        return clean(f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text, _LONGEST)


def configure(level: str, form: str) -> None:
    """Send all logs to standard error in that form: json or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":
        for name, quiet in _QUIET.items():
            logging.getLogger(name).setLevel(quiet)
