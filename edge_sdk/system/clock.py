"""When this process began, on the clock that time budgets are measured with."""

import os
import time
from pathlib import Path

LONGEST_START = 60.0  # seconds; an older process was another program first, which became this one


def process_start() -> float:
    """The value of `time.monotonic` when this process began; now, where the system does not say."""
    now = time.monotonic()
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # clock ticks since boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return now
    return now - age if 0 <= age <= LONGEST_START else now
