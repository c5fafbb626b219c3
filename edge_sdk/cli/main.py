"""`edge-sdk`: parse, run one command, turn every mistake into one line."""

import argparse
import importlib
import os
import signal
import sys
from typing import NoReturn

from edge_sdk import __version__, privacy
from edge_sdk.cli.terminal import STOPPING, handling, interrupt, write_error
from edge_sdk.errors import EdgeSdkError, is_panic, printable

COMMANDS = ("demo", "personalize", "generate", "quantize", "export", "verify", "unlearn", "audit", "benchmark")
DONE, FAILED_CHECK, USER_ERROR, CANCELLED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"edge-sdk: error: {printable(message)}; see {self.prog} --help\n")


def build_parser() -> Parser:
    parser = Parser(prog="edge-sdk", description="Personalize a quantized diffusion model with forward passes only.")
    parser.add_argument("--version", action="version", version=f"edge-sdk {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name in COMMANDS:
        module = importlib.import_module(f"edge_sdk.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = build_parser().parse_args(argv)
    privacy.stay_offline()
    try:
        with handling(STOPPING if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else STOPPING[1:], interrupt):
            return args.run(args)
    except EdgeSdkError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        write_error("edge-sdk: cancelled")
        return CANCELLED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except _of_the_machine() as error:  # anything else is a mistake of ours, to be seen whole
        return _refused(_said(error))
    except BaseException as error:
        if not is_panic(error):
            raise
        return _refused(f"a library gave up on an input ({str(error)[:200]}); look at the files that are given")


def _refused(message: str) -> int:
    write_error(f"edge-sdk: error: {printable(message)}")
    return USER_ERROR


def _of_the_machine() -> tuple[type[Exception], ...]:
    """What is raised where the machine refuses something; PyTorch's, which is no MemoryError, if it is loaded."""
    return OSError, MemoryError, getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)


def _said(error: Exception) -> str:
    """What was refused, and what to do."""
    reason = str(error)[:300] or type(error).__name__
    if not isinstance(error, OSError):
        return f"memory is used up ({reason}); free some, or ask for less, such as a smaller batch or --resolution"
    if error.filename is None:
        return f"the system refuses something ({reason}); mend that and try again"
    return f"{error.filename} cannot be used: {error.strerror}; give another place, or change its permissions"


if __name__ == "__main__":
    sys.exit(main())
