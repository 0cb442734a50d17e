"""Importing Feast leaves prometheus_client in the mode that the process was given."""

import subprocess
import sys

PROGRAM = """
import os
import features.feast_api
import prometheus_client
assert os.environ.get("PROMETHEUS_MULTIPROC_DIR") == {given!r}, os.environ.get("PROMETHEUS_MULTIPROC_DIR")
print(prometheus_client.values.ValueClass.__name__)
"""


def mode(given: str | None) -> str:
    environment = {} if given is None else {"PROMETHEUS_MULTIPROC_DIR": given}
    program = PROGRAM.format(given=given)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_metrics_stay_in_the_process_unless_it_was_given_a_folder(tmp_path):
    assert mode(None) == "MutexValue"
    assert mode(str(tmp_path)) == "MmapedValue"
