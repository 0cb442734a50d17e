"""Ray's workers hold no pandas for Serve's sake, and have it all the same where something else imports it."""

import subprocess
import sys

from serving.local.ray_settings import WORKER_START

CODE = f"""
import importlib, sys
importlib.import_module("{WORKER_START}")
assert "ray.serve" in sys.modules
assert "pandas" not in sys.modules
import pandas
assert pandas.DataFrame
"""


def test_serve_is_imported_without_pandas_which_later_imports_find() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=120)
