"""The operator process: `python -m qwensft_operator`. Settings come from the environment; `--help` lists them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from qwensft_operator.runtime import app
from qwensft_operator.runtime import logging as logs
from qwensft_operator.runtime.settings import Settings, SettingsError, describe, unknown_variables


def main() -> int:
    """Run the operator; return its exit code (2: unusable settings)."""
    parser = argparse.ArgumentParser(
        prog="python -m qwensft_operator",
        description="The Qwen SFT operator. It is set by environment variables:",
        epilog=describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logs.configure(settings.log_level, settings.log_format)
    for name in unknown_variables():
        logging.getLogger("qwensft_operator").warning("%s is not a setting; ignored", name)
    return asyncio.run(app.run(settings))


if __name__ == "__main__":
    sys.exit(main())
