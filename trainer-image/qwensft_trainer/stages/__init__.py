"""The three stages of a run: each reads as a table of contents of what it does."""
