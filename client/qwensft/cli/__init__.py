"""The command line: `kubectl qwensft`, or `qwensft` where there is no kubectl. Needs the extra `cli`.

`main` runs a command and turns what goes wrong into a sentence and an exit code; `offline` and `cluster` hold the
commands, each a table of contents; `views` makes texts of objects and is pure. docs/cli.md shows it all.
"""
