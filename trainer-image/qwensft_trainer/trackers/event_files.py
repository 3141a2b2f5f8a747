"""TensorBoard: event files in `tensorboard` in the run's directory. Every attempt adds one; the volume keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from qwensft_trainer.trackers.lines import Entry, Outcome
from qwensft_trainer.trackers.names import grouped
from qwensft_trainer.trackers.tracker import Subject

DIRECTORY = "tensorboard"


class EventFiles:
    """Writes records as the package does, but at once: its own writer has a thread, whose errors come later."""

    name = "tensorboard"

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._records: RecordWriter | None = None

    def open(self, step: int, *, ending: bool) -> tuple[str, str]:
        """Begin a file. What earlier ones say of later steps is trained again: readers leave it out."""
        directory = self._subject.directory / DIRECTORY
        directory.mkdir(exist_ok=True)
        # Readers take the files of a directory in the order of their names.
        name = f"events.out.tfevents.{time.time_ns():020d}.{self._subject.uid}.{self._subject.attempt}"
        self._records = RecordWriter((directory / name).open("xb"))
        self._write(
            Event(file_version="brain.Event:2"),
            Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)),
            Event(step=step, summary=Summary(value=[_text("parameters", self._subject.parameters)])),
        )
        return f"{self._subject.place}/{DIRECTORY}", self._subject.name

    def send(self, entries: Sequence[Entry]) -> None:
        """Hand the events to the operating system."""
        for entry in entries:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in grouped(entry.values).items()]
            self._write(Event(step=entry.step, wall_time=entry.time, summary=Summary(value=values)))

    def close(self, outcome: Outcome) -> None:
        """Close the file; how the attempt ended is not told there."""
        if self._records is not None:
            self._records.close()

    def _write(self, *events: Event) -> None:
        if self._records is not None:
            for event in events:
                event.wall_time = event.wall_time or time.time()
                self._records.write(event.SerializeToString())
            self._records.flush()


def _text(tag: str, parameters: Mapping[str, Any]) -> Summary.Value:
    lines = "\n".join(f"    {name}: {json.dumps(value, default=str)}" for name, value in parameters.items())
    return Summary.Value(
        tag=f"{tag}/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            string_val=[lines.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        ),
    )
