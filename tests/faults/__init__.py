"""Faults between the operator and its API server, a run to play under them, and what must be left of it.

Used against the API server in memory (tests/property) and against a real one (tests/integration).
"""
