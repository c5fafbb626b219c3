"""A case that needs more memory than its hard limit is killed, one that needs less is not."""

import signal
import subprocess
import sys

import pytest

from benchmarks.memory.limits import memory_limit
from edge_sdk.errors import EdgeSdkError


@pytest.mark.parametrize(("megabytes", "status"), [(10, 0), (200, -signal.SIGKILL)], ids=["below", "above"])
def test_a_process_above_its_limit_is_killed(megabytes: int, status: int) -> None:
    try:
        with memory_limit(100) as enter:
            program = f"bytes({megabytes} * 10**6).replace(b'\\0', b'1')"
            done = subprocess.run([sys.executable, "-c", program], preexec_fn=enter)
    except EdgeSdkError as error:
        pytest.skip(str(error))
    assert done.returncode == status


def test_no_limit_needs_no_rights() -> None:
    with memory_limit(None) as enter:
        assert enter is None
