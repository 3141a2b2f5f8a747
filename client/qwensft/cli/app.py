"""The commands by name. What a command does is imported when it runs: nobody waits half a second for --help."""

from __future__ import annotations

import typer

from qwensft.cli import cluster, offline, volumes

app = typer.Typer(
    name="qwensft",
    help="Fine-tune Qwen models on Kubernetes, from rows to a merged model.",
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for _command in (*offline.COMMANDS, *cluster.COMMANDS, *volumes.COMMANDS):
    app.command(_command.__name__.rstrip("_").replace("_", "-"))(_command)
