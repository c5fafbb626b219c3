"""`edge-sdk`: parse, run one command, turn every mistake into one line."""

import argparse
import importlib
import os
import signal
import sys
import time

from edge_sdk._version import __version__
from edge_sdk.cli.parser import USER_ERROR, Parser
from edge_sdk.cli.terminal import STOPPING, handling, interrupt, prepare_streams, write_error
from edge_sdk.errors import EdgeSdkError, is_panic, one_line, printable
from edge_sdk.system import privacy
from edge_sdk.system.clock import process_start

COMMANDS = {
    "demo": "learn a bundled subject on the embedded model and draw it, before and after",
    "personalize": "learn a token from 3 to 5 photos",
    "generate": "draw pictures from prompts and learned embeddings",
    "quantize": "write an integer checkpoint of a float model",
    "export": "write a bundle for ONNX Runtime or Core ML that an app embeds",
    "verify": "check a bundle: its files, then its golden vectors on every runtime that is here",
    "unlearn": "make a model forget pictures, with gradients, before it is quantized and shipped",
    "audit": "measure forgetting, integrity and recovery of a model that unlearned, against limits",
    "benchmark": "run a benchmark of a source checkout and write benchmarks/results/*.json",
}
DONE, FAILED_CHECK, CANCELLED = 0, 1, 130
EXAMPLE = "example: edge-sdk demo --output_dir demo_out"


def build_parser(*names: str) -> Parser:
    """The parser of some commands, by default of all.

    A command that is not named is listed, and has no options: what they are made from need not be loaded.
    """
    parser = Parser(
        prog="edge-sdk", description="Personalize a quantized diffusion model with forward passes only.", epilog=EXAMPLE
    )
    parser.add_argument(
        "--version", action="version", version=f"edge-sdk {__version__}", help="show the version and exit"
    )
    listed = "{" + ",".join(COMMANDS) + "}"
    commands = parser.add_subparsers(dest="command", required=True, title="commands", metavar=listed)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if not names or name in names:
            module = importlib.import_module(f"edge_sdk.cli.{name}")
            module.add_arguments(command)
            command.epilog = f"example: {module.EXAMPLE}"
            command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    prepare_streams()
    started = process_start() if argv is None else time.monotonic()
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser(*([word for word in words if word in COMMANDS] or [""]))
    if not words:
        parser.print_help()
        return DONE
    args = parser.parse_args(words, argparse.Namespace(started=started))
    privacy.stay_offline()
    try:
        with handling(STOPPING if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else STOPPING[1:], interrupt):
            return args.run(args)
    except EdgeSdkError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        write_error("edge-sdk: cancelled")
        return CANCELLED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except _machine_errors() as error:  # anything else is a mistake of ours, to be seen whole
        return _refuse(_machine_message(error))
    except BaseException as error:
        if not is_panic(error):
            raise
        return _refuse(f"a library gave up on an input ({one_line(error, 200)}); look at the files that are given")


def _refuse(message: object) -> int:
    write_error(f"edge-sdk: error: {printable(one_line(message))}")
    return USER_ERROR


def _machine_errors() -> tuple[type[Exception], ...]:
    """What is raised where the machine refuses something; PyTorch's, which is no MemoryError, if it is loaded."""
    return OSError, MemoryError, getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)


def _machine_message(error: Exception) -> str:
    """What was refused, and what to do."""
    reason = one_line(error, 300)
    if not isinstance(error, OSError):
        return f"memory is used up ({reason}); free some, or ask for less, such as a smaller batch or --resolution"
    if error.filename is None:
        return f"the system refuses something ({reason}); mend that and try again"
    return f"{error.filename} cannot be used: {error.strerror}; give another place, or change its permissions"


if __name__ == "__main__":
    sys.exit(main())
