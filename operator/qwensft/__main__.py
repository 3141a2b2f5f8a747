"""The operator process: `python -m qwensft`. Settings come from the environment; `--help` lists them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from qwensft.runtime import app
from qwensft.runtime import logging as logs
from qwensft.runtime.settings import Settings, SettingsError, describe, unknown_variables


def main() -> int:
    """Run the operator; return its exit code (2: unusable settings)."""
    parser = argparse.ArgumentParser(
        prog="python -m qwensft",
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
        logging.getLogger("qwensft").warning("%s is not a setting; ignored", name)
    return asyncio.run(app.run(settings))


if __name__ == "__main__":
    sys.exit(main())
