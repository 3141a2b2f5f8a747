"""What every other package here builds on; knows nothing of runs, models or data."""
