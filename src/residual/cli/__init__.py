"""The command `residual`: a thin layer over the functions of the package, one frozen dataclass of options for each command.

Only the module of the command that was asked for is imported; `residual --help` and `--version` need none, and no parser either.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from residual.spelling import nearest


class Command(Protocol):
    """The options of a command; its docstrings are the command's help."""

    def run(self) -> int:
        """Does it; the exit code."""


# name -> (module, dataclass of its options, one line)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "list": ("residual.cli.models", "List", "the networks there are, with their parameters and multiply-adds"),
    "show": ("residual.cli.models", "Show", "one network, layer by layer: shapes, parameters, multiply-adds, receptive field"),
    "train": ("residual.cli.training", "Train", "train a network on a folder of pictures, a catalog name or a hub name"),
    "evaluate": ("residual.cli.runs", "Evaluate", "measure a run on its test split or on other data"),
    "predict": ("residual.cli.runs", "Predict", "name what is on pictures"),
    "report": ("residual.cli.runs", "Report", "one HTML page on a run, or comparing several"),
    "convert": ("residual.cli.conversion", "Convert", "weights of any known library into another's, with a proof that they agree"),
    "study": ("residual.cli.study", "STUDIES", "why residual networks work: the papers' experiments on models of your own"),
    "grow": ("residual.cli.grow", "Grow", "make a trained network deeper without changing what it computes"),
    "reproduce": ("residual.cli.reproduce", "Reproduce", "a table or figure of the papers made again, with a verdict"),
    "doctor": ("residual.cli.data", "Doctor", "what is wrong with a folder of pictures"),
}
_WORDS = (*COMMANDS, "--help", "--version")
USAGE = "usage: residual COMMAND [OPTIONS]   (residual COMMAND --help says more)"
MISTAKE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0; 2 for a user's mistake (one sentence on stderr); 130 when interrupted; 141 when stdout was closed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush would complain
        return PIPE_CLOSED
    except OSError as error:
        return _mistake(f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error))
    except ValueError as error:
        return _mistake(str(error))
    except Exception as error:
        from residual.shortage import GENERAL, lacks_memory

        if not lacks_memory(error):
            raise
        return _mistake(GENERAL)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        from residual import __version__

        print(f"residual {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        word = "option" if name.startswith("-") else "command"
        raise ValueError(f"There is no {word} {name!r}.{nearest(name, _WORDS)} Commands: {', '.join(COMMANDS)}.")
    module, options, _ = COMMANDS[name]
    kind = getattr(importlib.import_module(module), options)
    if isinstance(kind, dict):  # a command of several, such as `residual study lesion`
        if not rest or rest[0] in ("-h", "--help"):
            print(_inner_help(name, kind))
            return 0
        inner, *rest = rest
        if inner not in kind:
            raise ValueError(f"There is no `residual {name} {inner}`.{nearest(inner, kind)} There are: {', '.join(kind)}.")
        name, (module, options, _) = f"{name} {inner}", kind[inner]
        kind = getattr(importlib.import_module(module), options)
    from residual.cli.parsing import parse

    command: Command | None = parse(kind, name, rest)
    return command.run() if command else 0


def _help() -> str:
    from residual import __doc__ as about

    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, _, line) in COMMANDS.items()]
    options = ["  -h, --help     this text", "  -V, --version  the version of residual"]
    return "\n".join([USAGE, "", (about or "").splitlines()[0], "", "commands:", *lines, "", "options:", *options])


def _inner_help(name: str, inner: dict[str, tuple[str, str, str]]) -> str:
    width = max(map(len, inner))
    lines = [f"  {word:<{width}}  {line}" for word, (_, _, line) in inner.items()]
    return "\n".join([f"usage: residual {name} NAME [OPTIONS]   (residual {name} NAME --help says more)", "", *lines])


def _mistake(message: str) -> int:
    print(f"residual: {' '.join(message.split())}", file=sys.stderr)
    return MISTAKE
