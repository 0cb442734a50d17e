"""The control plane: what speaks to the Kubernetes API, and what moves traffic between bundles.

Does not belong here: anything that answers a request. Of the serving layer it knows `serving.config` alone.
"""
