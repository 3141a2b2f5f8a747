"""The Kubernetes API of the operator, one subpackage per version, and the tools that export it.

`v1alpha1` holds the models; `crd` turns them into the CustomResourceDefinition. No I/O against a cluster happens here.
"""
