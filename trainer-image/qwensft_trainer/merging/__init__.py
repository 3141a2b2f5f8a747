"""From trained weights to a model directory that is proven to be what it claims."""
