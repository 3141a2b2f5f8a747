"""Faults between the operator and its API server, a run to play under them and what must be left of it; bad disks.

Used against the API server in memory (tests/property) and against a real one (tests/integration); the disk by
trainings in processes (tests/training) and on a cluster (tests/chaos).
"""
