"""The dashboards: how the operator does, where the runs stand, and one training.

Every query here is run by tests/monitoring on what a real operator and a real training have told. ADR 0158 says why.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel
from monitoring.panels import THIRD, Query, bars, board, choice, graph, number, rows

_RATE = "[$__rate_interval]"
_CHOSEN = '{run_namespace=~"$namespace"}'


def operator() -> Dashboard:
    """How the operator does."""
    made = board(
        "qwensft-operator", "Qwen SFT / Operator", "How the operator's processes do, and the API server for them."
    )
    head = [
        number("Replicas", "Processes that are scraped.", "short", Query("count(qwensft_operator_build_info)")),
        number("Leaders", "1 while one of them acts.", "short", Query("sum(qwensft_operator_leader)")),
        number(
            "Versions", "Replicas by version.", "short",
            Query("count by (version) (qwensft_operator_build_info)", "{{version}}"),
        ),
        number(
            "Quietest watch", "How long ago it was heard of; a bookmark comes every minute.", "s",
            Query("max(qwensft_operator_watch_age_seconds)"),
        ),
    ]  # fmt: skip
    work = [
        graph(
            "Queue", "Runs that wait for a worker of the leader, and workers that have one.", "short",
            Query("max(qwensft_operator_queue_depth and on (job, instance) qwensft_operator_leader == 1)", "waiting"),
            Query("sum(qwensft_operator_workers_busy)", "in hand"),
            Query("max(qwensft_operator_workers)", "workers"),
        ),
        graph(
            "Wait for a worker", "Half of all passes, and all but one in a hundred; the oldest that waits now.", "s",
            *_quantiles("qwensft_operator_queue_wait_seconds"),
            Query("max(qwensft_operator_queue_oldest_wait_seconds)", "oldest now"),
        ),
        graph(
            "Duration of a pass", "From reading a run to its status being written.", "s",
            *_quantiles("qwensft_operator_reconcile_duration_seconds"),
        ),
        graph(
            "Passes", "A second, and those that are tried again, by kind of failure.", "ops",
            Query(f"sum(rate(qwensft_operator_reconcile_duration_seconds_count{_RATE}))", "all"),
            Query(f"sum by (kind) (rate(qwensft_operator_reconcile_failures_total{_RATE}))", "{{kind}}"),
        ),
    ]  # fmt: skip
    server = [
        graph(
            "Requests", "To the API server, by verb and resource.", "reqps",
            Query(f"sum by (verb, resource) (rate(qwensft_operator_api_requests_total{_RATE}))",
                  "{{verb}} {{resource}}"),
        ),
        graph(
            "Requests refused", "By HTTP status; 0 is no answer. 404 and 409 are part of life.", "reqps",
            Query(f'sum by (verb, resource, code) (rate(qwensft_operator_api_requests_total{{code!~"2.."}}{_RATE}))',
                  "{{verb}} {{resource}} {{code}}"),
        ),
        graph(
            "Answers of the API server", "How long they take, watches left out.", "s",
            *_quantiles("qwensft_operator_api_request_duration_seconds"),
        ),
        graph(
            "Watches", "For how long they have been failing; 0 is well.", "s",
            Query("max by (resource, run_namespace) (qwensft_operator_watch_closed_seconds)",
                  "{{resource}} {{run_namespace}}"),
        ),
    ]  # fmt: skip
    process = [
        graph(
            "Memory", "Resident, by process.", "bytes",
            Query("process_resident_memory_bytes and on (job, instance) qwensft_operator_build_info", "{{instance}}"),
            width=THIRD,
        ),
        graph(
            "CPU", "Cores, by process.", "short",
            Query(f"rate(process_cpu_seconds_total{_RATE}) and on (job, instance) qwensft_operator_build_info",
                  "{{instance}}"),
            width=THIRD,
        ),
        graph(
            "Objects remembered", "By resource.", "short",
            Query("max by (resource) (qwensft_operator_objects)", "{{resource}}"),
            width=THIRD,
        ),
    ]  # fmt: skip
    return _with_rows(made, ("Now", head), ("Work", work), ("API server", server), ("Process", process))


def runs() -> Dashboard:
    """Where the runs stand."""
    made = board(
        "qwensft-runs", "Qwen SFT / Runs", "Runs of all namespaces: where they stand, how they end, what they hold.",
        choice("namespace", "Namespace", "label_values(qwensft_runs, run_namespace)", many=True),
    )  # fmt: skip
    now = [
        number(
            "Runs", "By phase. Unseen: the operator has not come to them.", "short",
            Query(f"sum by (phase) (qwensft_runs{_CHOSEN})", "{{phase}}"),
            width=24,
        ),
        graph(
            "Runs by phase", "Those that have not ended.", "short",
            Query('sum by (phase) (qwensft_runs{run_namespace=~"$namespace", phase!~"Succeeded|Failed"})', "{{phase}}"),
        ),
        rows(
            "Why they are there", "Runs by namespace, phase and reason.",
            Query(f"sum by (run_namespace, phase, reason) (qwensft_runs{_CHOSEN}) > 0"),
        ),
        bars(
            "Longest waits", "For how long nothing has happened to a run, by the reason it waits for.", "s",
            Query(f"max by (run_namespace, reason) (qwensft_run_waiting_seconds{_CHOSEN}) > 0",
                  "{{run_namespace}} {{reason}}"),
        ),
        graph(
            "Ends", "Runs that ended within an hour.", "short",
            Query(f"sum by (phase) (increase(qwensft_runs_ended_total{_CHOSEN}[1h]))", "{{phase}}"),
        ),
        graph(
            "Restarts", "Attempts within an hour after a failed one, in all namespaces, by stage and cause.", "short",
            Query("sum by (stage, reason) (increase(qwensft_restarts_total[1h])) > 0", "{{stage}} {{reason}}"),
        ),
        graph(
            "Duration of stages", "Those done in the range shown, in all namespaces: half of them, nine of ten.", "s",
            *(
                Query(
                    f"histogram_quantile({share}, "
                    "sum by (le, stage) (rate(qwensft_stage_duration_seconds_bucket[$__range])))",
                    f"{{{{stage}}}}, {name}",
                )
                for share, name in ((0.5, "median"), (0.9, "90 %"))
            ),
        ),
    ]  # fmt: skip
    accelerators = [
        graph(
            "Accelerators held", "By pods that have a node and have not ended.", "short",
            Query(f"sum by (run_namespace) (qwensft_accelerators_held{_CHOSEN})", "{{run_namespace}}"),
        ),
        bars(
            "Accelerator-hours", "In the range shown, as runs have told.", "h",
            Query(f"sum by (run_namespace) (increase(qwensft_accelerator_seconds_total{_CHOSEN}[$__range])) / 3600",
                  "{{run_namespace}}"),
        ),
        graph(
            "Wasted", "Share of the last six hours' accelerator time before first steps, and for steps trained again.",
            "percentunit",
            _wasted("before_first_step", "before first steps"),
            _wasted("lost_to_restarts", "lost to restarts"),
            width=24,
        ),
    ]  # fmt: skip
    return _with_rows(made, ("Runs", now), ("Accelerators", accelerators))


def training() -> Dashboard:
    """One training, over its attempts."""
    made = board(
        "qwensft-training", "Qwen SFT / Training", "One training, live from its node rank 0, attempt by attempt.",
        choice("namespace", "Namespace", "label_values(qwensft_train_info, run_namespace)"),
        choice("run", "Run", 'label_values(qwensft_train_info{run_namespace="$namespace"}, run)'),
    )  # fmt: skip
    head = [
        number("Done", "Share of all steps.", "percentunit", _of_run("qwensft_train_step / qwensft_train_total_steps")),
        number("Time left", "At the present speed.", "s", _of_run("qwensft_train_estimated_remaining_seconds")),
        number("Loss", "Of the last log line.", "none", _of_run("qwensft_train_loss")),
        number(
            "Last step", "How long ago it was.", "s", _of_run("(time() - qwensft_train_last_update_timestamp_seconds)")
        ),
    ]
    learning = [
        graph(
            "Loss", "Of training and evaluation.", "none",
            _of_run("qwensft_train_loss", "training"),
            _of_run("qwensft_train_eval_loss", "evaluation"),
            _of_run("qwensft_train_best_eval_loss", "best evaluation"),
        ),
        graph("Learning rate", "As it is scheduled.", "sci", _of_run("qwensft_train_learning_rate")),
        graph("Steps", "Done, over all attempts.", "short", _of_run("qwensft_train_step")),
        graph(
            "Loss that is no number", "1 while the last logged loss is NaN or infinite.", "short",
            _of_run("qwensft_train_non_finite_loss"),
        ),
    ]  # fmt: skip
    speed = [
        graph("Tokens", "A second, by all ranks.", "short", _of_run("qwensft_train_tokens_per_second"), width=THIRD),
        graph(
            "Padding", "Share of what this attempt has computed.", "percentunit",
            _of_run("qwensft_train_attempt_padding_share"), width=THIRD,
        ),
        graph(
            "Use of the accelerators", "Model FLOPs utilisation; only where the accelerator's kind is known.",
            "percentunit", _of_run("qwensft_train_attempt_model_flops_utilization"), width=THIRD,
        ),
        bars(
            "Before the first step", "What the attempt did before it.", "s",
            Query(
                'label_replace({__name__=~"qwensft_train_attempt_(checks|gang|imports|rendezvous|data|model|setup)'
                '_seconds"}, "part", "$1", "__name__", "qwensft_train_attempt_(.*)_seconds") '
                f"* on (job, instance) group_left (attempt) {_INFO}",
                "{{part}}, attempt {{attempt}}",
            ),
            width=24,
        ),
    ]  # fmt: skip
    return _with_rows(made, ("Now", head), ("Learning", learning), ("Speed", speed))


DASHBOARDS = {"operator": operator, "runs": runs, "training": training}
_INFO = 'qwensft_train_info{run_namespace="$namespace", run="$run"}'


def _of_run(expression: str, what: str = "") -> Query:
    """A figure of the run's trainings; the info tells which attempt each is of."""
    legend = ", ".join(filter(None, [what, "attempt {{attempt}}"]))
    return Query(f"{expression} * on (job, instance) group_left (attempt) {_INFO}", legend)


def _wasted(what: str, name: str) -> Query:
    def grown(part: str) -> str:
        return f"sum(increase(qwensft_accelerator_{part}seconds_total{_CHOSEN}[6h]))"

    return Query(f"{grown(f'{what}_')} / {grown('')}", name)


def _quantiles(name: str) -> list[Query]:
    return [
        Query(f"histogram_quantile({share}, sum by (le) (rate({name}_bucket{_RATE})))", legend)
        for share, legend in ((0.5, "median"), (0.99, "99 %"))
    ]


def _with_rows(made: Dashboard, *parts: tuple[str, Sequence[Builder[Panel]]]) -> Dashboard:
    for title, panels in parts:
        made = made.with_row(Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return made
