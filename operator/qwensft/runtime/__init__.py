"""The edges of the operator: Kubernetes, the clock, the network and the process.

Everything that decides lives in `qwensft.plan`; everything that shapes manifests lives in `qwensft.render`.
"""
