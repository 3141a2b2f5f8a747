"""What the operator and the image agree on: configuration, arguments, termination message, exit codes, directories."""
