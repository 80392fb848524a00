"""The options of one command, read by tyro; every mistake in them is a ValueError with one sentence.

tyro writes its errors as boxes of several paragraphs: what went wrong is taken out of that text, and said in our words.
"""

import contextlib
import io
import re
from typing import TypeVar

import tyro

from residual.spelling import nearest
from residual.variants import VARIANTS

Options = TypeVar("Options")
_MEANING = {
    "INT": "a whole number",
    "N": "a whole number",
    "N...": "whole numbers, separated by spaces",
    "FLOAT": "a number",
    "INTINT": "two whole numbers",
    "FLOATFLOAT": "two numbers",
    "[INT[INT...]]": "whole numbers, separated by spaces",
    "[FLOAT[FLOAT...]]": "numbers, separated by spaces",
}


def parse(kind: type[Options], name: str, arguments: list[str]) -> Options | None:
    """The options in `arguments` as a `kind`; None when they asked for help, which is then on stdout.

    Raises:
        ValueError: one sentence on the first mistake, with the nearest right option where one was wrong.
    """
    if "-h" in arguments or "--help" in arguments:
        print(_help(kind, name))
        return None
    for flag, equals, value in (token.partition("=") for token in arguments if token.startswith("--")):
        if equals and _flags(kind, name).get(flag.replace("_", "-")) == "":
            raise ValueError(f"{flag} is a switch and takes no value, but got {value!r}.")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            options, unknown = tyro.cli(kind, prog=f"residual {name}", args=arguments, return_unknown_args=True)
    except SystemExit:
        raise ValueError(_sentence(said.getvalue(), kind, name, arguments)) from None
    if unknown:
        raise ValueError(_unknown(unknown[0], kind, name))
    return options


def _help(kind: type[Options], name: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(kind, prog=f"residual {name}", args=["--help"])
    lines = [line.rstrip() for line in said.getvalue().replace("{None}|", "").replace("{None,", "{").splitlines()]
    return "\n".join(line for line in lines if not re.fullmatch(r"\W*-{10,}\W*", line)).strip()


def _flags(kind: type[Options], name: str) -> dict[str, str]:
    """Flag -> what stands for its value in the help."""
    found = {}
    for match in re.finditer(r"^\s*(?:-\w, )?(--[\w-]+(?:, --[\w-]+)*)(?: (\{[^}]*\}|\S.*?))?(?:  |$)", _help(kind, name), re.MULTILINE):
        for flag in match[1].split(", "):
            found[flag] = "".join(match[2].split()).strip("{}") if match[2] else ""
    return found


def _unknown(token: str, kind: type[Options], name: str) -> str:
    flag = token.partition("=")[0]
    if not flag.startswith("-"):
        meant = f" Did you mean --model {token}?" if token in VARIANTS and "--model" in _flags(kind, name) else ""
        return f"`residual {name}` does not know what to do with {token!r}.{meant} `residual {name} --help` shows what it takes."
    return f"`residual {name}` has no option {flag}.{nearest(flag, _flags(kind, name))} `residual {name} --help` shows them all."


def _sentence(said: str, kind: type[Options], name: str, arguments: list[str]) -> str:
    """One sentence from tyro's text on `arguments` that it refused."""
    lines = [line.strip("│┃| ") for line in said.splitlines()]
    text = " ".join(line for line in lines if line and not re.fullmatch(r"[\W_]+", line))
    if match := re.search(r"Error parsing (--[\w-]+|\S+): (.*?)(?: Got errors:| Argument helptext:|$)", text):
        return _bad_value(match[1], match[2], _flags(kind, name), arguments)
    if match := re.search(r"invalid choice '(.*?)' for argument '(\S+?)'\.", text):
        choices = _flags(kind, name).get(match[2], "").split(",")
        return f"{match[2]} is {match[1]!r}, but must be one of {', '.join(map(repr, choices))}.{nearest(match[1], choices)}"
    if match := re.search(r"Missing value for argument '(\S+?)'", text):
        meaning = _MEANING.get(_flags(kind, name).get(match[1], ""), "a value")
        return f"{match[1]} needs {meaning} after it."
    if match := re.search(r"Missing from residual .*?: (\S+)", text):
        return f"`residual {name}` needs {match[1]}; `residual {name} --help` shows how."
    return re.sub(r" ?For full helptext.*", "", text) or f"`residual {name}` cannot read its options."


def _bad_value(flag: str, reason: str, flags: dict[str, str], arguments: list[str]) -> str:
    """What was received for `flag` and what it must be; tyro's own reason where its type is an unusual one."""
    wanted = _MEANING.get(flags.get(flag, ""))
    if wanted is None:
        return f"{flag}: {reason.rstrip('.')}."
    for index, token in enumerate(arguments):
        name, equals, _ = token.replace("_", "-").partition("=")
        if name == flag:
            given = [token.partition("=")[2]] if equals else _until_flag(arguments[index + 1 :])
            return f"{flag} is {' '.join(given)!r}, but must be {wanted}."
    return f"{flag} must be {wanted}: {reason.rstrip('.')}."


def _until_flag(tokens: list[str]) -> list[str]:
    count = next((i for i, token in enumerate(tokens) if token.startswith("--")), len(tokens))
    return tokens[:count]
