"""The stages of a run: each is a child Job of its own, and a command of the trainer image."""

from enum import StrEnum


class Stage(StrEnum):
    """The three child Jobs of a run, in the order in which they run.

    A value is the trainer's command, the label of the Job and its pods, and a field of `status.stages`.
    """

    PREPARE = "prepare"
    TRAIN = "train"
    MERGE = "merge"
