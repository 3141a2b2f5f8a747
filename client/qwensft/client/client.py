"""`Client`: runs of one namespace, from rows to a handle."""

from __future__ import annotations

import re
import secrets
from typing import Any

from qwensft.api.v1alpha1 import Columns, Model, QwenSFTJob, Storage, Tags
from qwensft.api.v1alpha1.datasets import Format
from qwensft.client import placing
from qwensft.client.errors import (
    ImageUnknownError,
    NameExistsError,
    NotFoundError,
    NotPermittedError,
    RefusedError,
)
from qwensft.client.jobs import Jobs
from qwensft.client.progress import Display, Nowhere, display, transferred
from qwensft.client.reading import Document, job_of, written
from qwensft.client.rows import RowsFile, rows_file
from qwensft.client.run import Run


class Client(Jobs):
    """Runs of one namespace. See `Jobs` for what it does with a job of which only the name is at hand."""

    def train(
        self,
        /,
        name: str | None = None,
        *,
        model: Model | Document | str,
        rows: Any = None,
        storage: Storage | Document | str,
        format: Format | None = None,  # noqa: A002 - the field's name
        columns: Columns | Document | None = None,
        tags: Tags | Document | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        progress: bool = False,
        **spec: Any,
    ) -> Run:
        """Create a run from rows that lie here, and bring them to the cluster.

        A call that was broken off while rows were sent is made again with the same arguments, its name among them: it
        goes on with what has arrived. Until then the run is held.

        Args:
            name: Name of the run. Default: the model's, and five random characters.
            model: The block `model` of the spec, or the model's name alone, as "Qwen/Qwen3-8B".
            rows: A list of dicts, a path (.json, .jsonl, .csv, .parquet), a DataFrame or a Dataset. They become the
                first dataset, named rows. Default: none; `datasets` says where they are.
            storage: The block `storage`, or the size of a claim that is made for the run, as "100Gi".
            format: alpaca, sharegpt or openai. Default: what the columns tell.
            columns: Names of columns, where they are others than the format's.
            tags: Names of roles, where they are others; sharegpt only.
            labels: Labels of the QwenSFTJob.
            annotations: Its annotations.
            progress: Show how much of large rows was sent.
            **spec: The other blocks, by their names in Python or YAML: training={"epochs": 3}, worker=Worker(...).

        Raises:
            InvalidJobError: a block breaks a rule; nothing was sent.
            RowsError: the rows cannot be sent.
            NameExistsError: there is a run of that name.
            RefusedError: the server refuses the run; nothing is left of it.
            TransferError: the rows have not arrived. The run is held; call again, or delete it.
        """
        name = name or _new_name(model)
        metadata = {key: value for key, value in (("labels", labels), ("annotations", annotations)) if value}
        if rows is None:
            job = job_of(name, model=model, storage=storage, dataset=None, spec=spec, metadata=metadata)
            self.create_job(job)
            return Run(self, name)
        with rows_file(rows) as file:
            dataset: dict[str, Any] = {
                "name": "rows",
                "format": format or file.format,
                "source": placing.source(name, file),
            }
            dataset |= {key: value for key, value in (("columns", columns), ("tags", tags)) if value is not None}
            job = job_of(name, model=model, storage=storage, dataset=dataset, spec=spec, metadata=metadata)
            self._bring(job, file, display() if progress else Nowhere())
        return Run(self, name)

    def run(self, name: str) -> Run:
        """Return a handle of a run that there is.

        Raises:
            NotFoundError: there is none of that name.
        """
        self.get_job(name)
        return Run(self, name)

    def _bring(self, job: QwenSFTJob, file: RowsFile, shown: Display) -> None:
        document = written(job, self.namespace)
        begun_before = self._exists(document["metadata"]["name"])
        held = placing.reserve(self.connection, document, file)
        try:
            placing.place(
                self.connection,
                held,
                file,
                image=lambda: self.image_for(held),
                tell=lambda done, size: shown.show(transferred("Sending", done, size)),
            )
        except (RefusedError, NotPermittedError, ImageUnknownError, NameExistsError):
            if not begun_before:  # nothing was sent; of an earlier call much may have been
                self.delete_job(held.metadata.name)
            raise
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"run {held.metadata.name} is held: call again with this name to go on, or delete it")
            raise
        finally:
            shown.close()
        placing.release(self.connection, held, suspend=job.spec.run_policy.suspend)

    def _exists(self, name: str) -> bool:
        try:
            self.get_job(name)
        except NotFoundError:
            return False
        return True


def _new_name(model: Model | Document | str) -> str:
    """The last part of the model's name as a Kubernetes name, and five random characters."""
    given = model if isinstance(model, str) else model.name if isinstance(model, Model) else str(model.get("name", ""))
    stem = re.sub("[^a-z0-9]+", "-", given.rpartition("/")[2].lower()).strip("-")[:30].strip("-")
    return f"{stem if stem[:1].isalpha() else 'run'}-{secrets.token_hex(3)[:5]}"
