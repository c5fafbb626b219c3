"""Tests of the apps never fetch a tool: `make android` and `make ios` set them up, and what is missing is skipped."""

import os

os.environ.setdefault("EDGE_SDK_FETCH", "0")
