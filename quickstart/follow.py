"""Follows one QwenSFTJob from its creation to its end and shows what happens, one line per change.

Reads only what any user can see: the object's status and its events.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from quickstart.shell import Kubectl
from quickstart.steps import Line, QuickstartError, clock

BAR_WIDTH = 20
SECONDS_BETWEEN_LINES = 5.0
EVENTS_SHOWN = 12
# Reasons of a job that only needs time.
ROUTINE = {"Starting", "PodsStarting", "Running"}
DOING = {
    "Preparing": "checking and tokenising the rows",
    "Training": "starting the training pods",
    "Merging": "merging the adapter, verifying the result",
}
RESOURCE = "qwensftjobs.qwensft.io"


def condition(job: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of the job's status; empty when it is not there."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((dict(found) for found in conditions if found["type"] == kind), {})


def ended(job: dict[str, Any]) -> bool:
    """Tell whether the job's newest generation has succeeded or failed for good."""
    current = job.get("status", {}).get("observedGeneration") == job["metadata"]["generation"]
    return current and condition(job, "Succeeded").get("status") in {"True", "False"}


def watch(kubectl: Kubectl, namespace: str, name: str, timeout: float) -> Iterator[dict[str, Any]]:
    """Yield the job now and after every change, until it has ended.

    Raises QuickstartError when it has not ended after `timeout` seconds, or has been deleted.
    """
    deadline = time.monotonic() + timeout
    while True:
        latest = kubectl.get(RESOURCE, name, "-n", namespace)
        if not latest:
            raise QuickstartError(f"the job {namespace}/{name} is gone")
        yield latest
        if ended(latest):
            return
        for latest in _stream(kubectl, namespace, name, deadline):
            yield latest
            if ended(latest):
                return
        if time.monotonic() > deadline:
            raise QuickstartError(
                f"the job {namespace}/{name} has not ended after {clock(timeout)}\n{explain(kubectl, latest)}"
            )


def _stream(kubectl: Kubectl, namespace: str, name: str, deadline: float) -> Iterator[dict[str, Any]]:
    """Yield the job and every change of it, as `kubectl get --watch` prints them, until it ends or the deadline passes.

    A list of one, as kubectl watches a list from the very state that it has printed. Of a single object it swallows
    what changes before the watch is open, and that may have been the end of the job.
    """
    one = f"metadata.name={name}"
    command = ["kubectl", "get", RESOURCE, "-n", namespace, "--field-selector", one, "--watch", "-o", "json"]
    with subprocess.Popen(
        command, env=kubectl.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker; a pipe was asked for
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        stream = process.stdout

        def read() -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        text = ""
        try:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    line = lines.get(timeout=left)
                except queue.Empty:
                    return
                if line is None:
                    return
                text += line
                # kubectl prints indented documents one after the other: each ends with a brace in the first column.
                if line.rstrip() == "}":
                    yield dict(json.loads(text))
                    text = ""
        finally:
            process.kill()


def phase_of(job: dict[str, Any]) -> str:
    """Return the job's phase; one that the operator has not seen yet is pending."""
    return str(job.get("status", {}).get("phase", "Pending"))


def describe(job: dict[str, Any]) -> str:
    """Tell in one line what the job is at."""
    phase, progress = phase_of(job), job.get("status", {}).get("progress", {})
    if phase == "Training" and progress.get("totalSteps"):
        percentage = progress.get("percentage", 0)
        filled = round(BAR_WIDTH * percentage / 100)
        parts = [f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {percentage:3d} %", f"step {progress.get('steps', '?')}"]
        if "loss" in progress:
            parts.append(f"loss {progress['loss']:.2f} (first {progress.get('initialLoss', progress['loss']):.2f})")
        if "eta" in progress:
            parts.append(f"ETA {progress['eta']}")
        return f"{phase:<11} {'  '.join(parts)}"
    headline = condition(job, "Succeeded")
    message = headline.get("message", "")
    # While all goes well, what is being done tells more than which Job does it.
    if headline.get("reason") in ROUTINE:
        message = DOING.get(phase, message)
    return f"{phase:<11} {message}".rstrip()


def follow(kubectl: Kubectl, namespace: str, name: str, timeout: float = 1800) -> dict[str, Any]:
    """Show the job's progress until it has ended and return it as it is then.

    Raises QuickstartError with reason, message and events when it did not succeed in `timeout` seconds.
    """
    line = Line()
    began = time.monotonic()
    before, phase_before, printed_at = "", "", -SECONDS_BETWEEN_LINES
    job: dict[str, Any] = {}
    for job in watch(kubectl, namespace, name, timeout):
        text, phase, now = describe(job), phase_of(job), time.monotonic()
        stamped = f"{clock(now - began):>8}  {text}"
        changed = phase != phase_before
        if line.live:
            # The last line of a phase stays, the current one is rewritten in place.
            if changed and before:
                line.end(before)
            line.update(stamped)
            before = stamped
        # In a log, steps would fill pages: a line for each change of phase, and one every few seconds between.
        elif text != before and (changed or ended(job) or now - printed_at >= SECONDS_BETWEEN_LINES):
            line.end(stamped)
            before, printed_at = text, now
        phase_before = phase
    if line.live:
        line.end(before)
    if condition(job, "Succeeded").get("status") != "True":
        raise QuickstartError(explain(kubectl, job))
    return job


def explain(kubectl: Kubectl, job: dict[str, Any]) -> str:
    """Tell why a job failed or where it is stuck: the condition's reason and message, then the whole account."""
    found = condition(job, "Succeeded")
    if found.get("status") != "False":
        found = condition(job, "Stalled") if condition(job, "Stalled").get("status") == "True" else found
    reason, message = found.get("reason", "no reason"), found.get("message", "no message")
    return f"{job['metadata']['namespace']}/{job['metadata']['name']}: {reason}: {message}\n{account(kubectl, job)}"


def account(kubectl: Kubectl, job: dict[str, Any]) -> str:
    """Tell how a job's stages went, its conditions and its last events, a line each."""
    status, metadata = job.get("status", {}), job["metadata"]
    selector = f"involvedObject.name={metadata['name']}"
    events = kubectl.items("events", "-n", metadata["namespace"], "--field-selector", selector)
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    parts = {
        "Stages": [_stage(name, stage) for name, stage in status.get("stages", {}).items()],
        "Conditions": [
            f"{c['type']:<12} {c['status']:<8} {c['reason']}: {c['message']}" for c in status.get("conditions", [])
        ],
        "Events": [f"{event['type']:<8} {event['reason']:<20} {event['message']}" for event in events[-EVENTS_SHOWN:]],
    }
    return "\n".join(
        line for title, found in parts.items() if found for line in (f"{title}:", *(f"  {f}" for f in found))
    )


def _stage(name: str, stage: dict[str, Any]) -> str:
    """One line: which attempt, how often it was restarted, and why it last failed."""
    done = "done" if "completionTime" in stage else "not done"
    why = f", last failure {stage['reason']}: {stage.get('message', '')}" if "reason" in stage else ""
    return f"{name:<8} attempt {stage.get('attempt', 0)}, {stage.get('restarts', 0)} restarts, {done}{why}"
