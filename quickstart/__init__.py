"""The program behind `make quickstart`, `make setup` and `make images`: from a bare machine to a fine-tuned model.

It builds images, starts a cluster, installs the chart, runs `examples/quickstart.yaml` and shows what came out of it.
The end-to-end tests use the same setup and the same helpers. Nothing in the operator depends on this package.
ADR 0032 says why.
"""
