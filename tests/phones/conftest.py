"""Tests of the apps never fetch a tool: `make android` and `make ios` set them up, and what is missing is skipped."""

import os
import signal

os.environ.setdefault("EDGE_SDK_FETCH", "0")
# A shell lets programs in the background ignore Ctrl-C, and what they start does so, too. A handler ends with exec.
signal.signal(signal.SIGINT, signal.default_int_handler)
