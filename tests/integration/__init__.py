"""Integration tests: a package, so that its fixtures end with it and not with the whole session."""
