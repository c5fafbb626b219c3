"""Commands that messages tell the user to run."""

import re
import shlex


def python_command(program: str) -> str:
    """A command line that runs a program of one line; in plain quotes, which every shell has, where that is enough."""
    quoted = shlex.quote(program) if re.search(r'["$`\\!%]', program) else f'"{program}"'
    return f"python -c {quoted}"
