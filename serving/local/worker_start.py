"""What every Ray worker of a local run imports before it takes work: Ray Serve, without pandas.

Does not belong here: what replicas alone need.
"""

import sys

# Serve imports pandas in each of its processes for one purpose, to write data frames as JSON, and does
# without where there is none. Nobody answers with one here: 30 MB in the controller and each proxy. Hidden
# only meanwhile: in a replica Feast imports it afterwards.
_hidden = sys.modules.setdefault("pandas", None) is None  # type: ignore[arg-type]  # None: not to be had
try:
    import ray.serve  # noqa: F401 - for its being imported
finally:
    if _hidden:
        del sys.modules["pandas"]
