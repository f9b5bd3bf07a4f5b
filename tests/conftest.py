"""What holds for all tests: four CPU devices, strict promotion, and a cache folder of their own.

JAX reads these settings when it is first imported, and the programs that tests start inherit them.
"""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "4",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_STARTED_HERE = "PYTEST_XDIST_WORKER" not in os.environ
if _STARTED_HERE:  # the workers of pytest-xdist share one cache
    os.environ["CHARRNN_CACHE"] = tempfile.mkdtemp(prefix="charrnn-tests-")

settings.register_profile("house", deadline=None, max_examples=60)
settings.load_profile("house")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache folder made above."""
    if _STARTED_HERE:
        shutil.rmtree(os.environ["CHARRNN_CACHE"], ignore_errors=True)
