"""Reports what a training logs to trackers of experiments, from a process beside the training. ADR 0163 says why."""
