"""The training of one node: torchrun, its workers, their peers, checkpoints and progress, and why they failed."""
