"""The classes that Ray Serve makes replicas of: thin shells that load their part of a bundle and call it.

Plain classes: `serving.app` decorates them. Does not belong here: anything that decides about a request.
"""
