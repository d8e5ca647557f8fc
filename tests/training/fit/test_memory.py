"""Freed memory is kept, where the C library can be told to."""

import subprocess
import sys

import pytest

CHURN = """
import resource, sys
import numpy as np
from training.fit.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_not_returned_to_the_system() -> None:
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", CHURN, mode], check=True, capture_output=True, text=True).stdout
        )
        for mode in ("keep", "default")
    }
    assert faults["keep"] < faults["default"] / 4
