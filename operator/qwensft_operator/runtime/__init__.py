"""The edges of the operator: Kubernetes, the clock, the network and the process.

What decides lives in `qwensft_operator.plan`, what shapes manifests in `qwensft_operator.render`.
"""
