"""Runs the matrix's jobs, a few at a time, and looks at all their models in one pod."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quickstart import follow
from quickstart.pods import printed_json, run_script
from quickstart.setup import Ready
from quickstart.steps import QuickstartError
from tests.e2e.runs import Job, Runs
from tests.matrix.rows import Row
from tests.matrix.setting import MODELS, RUNS, Setting

CHECK = Path(__file__).parent / "scripts" / "check_models.py"
# A run is mostly one process after the other on one core, and there may be only two cores.
AT_A_TIME = 3
# Bounds what hangs: three at a time, perhaps on a slow and busy machine. Alone, a row takes a minute.
RUN_TIMEOUT = CHECK_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Result:
    """How a row's run ended: the job as it was then, what its rank 0 wrote, and why it failed or hung if so.

    `again` is the job after it was merged once more by the other engine, for rows of both.
    """

    row: Row
    job: Job
    log: str
    failure: str
    again: Job | None = None

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.job["status"])


@dataclass
class Matrix:
    """The runs of some rows. `rows` are those that the session's tests ask for: all are started together."""

    ready: Ready
    setting: Setting
    runs: Runs
    rows: tuple[Row, ...]
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_A_TIME))
    _results: dict[str, Future[Result]] = field(default_factory=dict)
    _checked: Future[dict[str, Any]] | None = None

    def start(self) -> None:
        """Queue all rows."""
        for row in self.rows:
            self._results[row.name] = self._pool.submit(self._run, row)

    def stop(self) -> None:
        """Forget what has not begun and wait for what has."""
        self._pool.shutdown(cancel_futures=True)

    def result(self, name: str) -> Result:
        """Wait for a row's run to end, well or badly."""
        return self._results[name].result()

    def succeeded(self) -> list[Result]:
        """Wait for all runs; those that ended well."""
        return [result for row in self.rows if not (result := self.result(row.name)).failure]

    def checked(self, name: str) -> dict[str, Any]:
        """What check_models.py found out about a row's merged model; it looks at all of them in one pod."""
        if self._checked is None:
            self._checked = self._pool.submit(self._check, self.succeeded())
        return dict(self._checked.result()[name])

    def _run(self, row: Row) -> Result:
        try:
            self.runs.create(row.name, row.spec(model_image=self.setting.model_image))
            job = self.runs.to_the_end(row.name, RUN_TIMEOUT).last
        except QuickstartError as refused_or_hung:
            return Result(row=row, job={}, log="", failure=str(refused_or_hung))
        if follow.condition(job, "Succeeded")["status"] != "True":
            return Result(row=row, job=job, log="", failure=follow.explain(self.runs.kubectl, job))
        pods = self.runs.pods(row.name, "train", attempt=job["status"]["stages"]["train"]["attempt"])
        log = self.runs.log(pods[0])
        try:
            again = self._merged_again(row) if row.both_engines else None
        except QuickstartError as hung:
            return Result(row=row, job=job, log=log, failure=str(hung))
        return Result(row=row, job=job, log=log, failure="", again=again)

    def _merged_again(self, row: Row) -> Job:
        self.runs.patch(row.name, {"merge": {"engine": "llamafactory", "path": "by-llamafactory"}})
        return self.runs.to_the_end(row.name, RUN_TIMEOUT).last

    def _check(self, results: Iterable[Result]) -> dict[str, Any]:
        jobs = []
        for result in results:
            outputs = {kind: f"/workspace/{output['path']}" for kind, output in result.status["outputs"].items()}
            run = outputs["merged"].removesuffix("/merged")
            base = f"/model/{result.row.model}"
            tokens = json.dumps(result.row.expected.tokens)
            again = f"{run}/by-llamafactory" if result.again else ""
            jobs.append(
                {"name": result.row.name, "base": base, "run": run, "tokens": tokens, "again": again, **outputs}
            )
        printed = run_script(
            self.ready.kubectl,
            self.runs.namespace,
            CHECK,
            [json.dumps(jobs)],
            image=self.ready.images.trainer,
            claims={"/model": MODELS, "/workspace": RUNS},
            timeout=CHECK_TIMEOUT,
        )
        return printed_json(printed)
