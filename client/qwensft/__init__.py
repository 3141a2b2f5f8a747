"""QwenSFTJob as Python objects: the API's models and rules, and the estimate of a run's memory. Needs no cluster."""
