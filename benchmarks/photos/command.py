"""How this folder's scripts end: a user's mistake is one line and exit status 2."""

import sys
from collections.abc import Callable

from edge_sdk.errors import EdgeSdkError


def run(main: Callable[[], None]) -> None:
    try:
        main()
    except EdgeSdkError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
