"""Whether a base model can be trained as the job asks, told before an accelerator is held."""
