"""The Kubernetes API of the operator, one subpackage per version, and the tools that export it.

`v1alpha1` holds the models; `export` writes what is made from them: the CustomResourceDefinition of `crd` and the pages
of `reference` and `argument_page`. No I/O against a cluster happens here.
"""
