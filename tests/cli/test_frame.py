"""The command's frame: help and version at once, and every mistake one sentence on stderr and exit code 2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import residual
from residual.cli import COMMANDS, main

RESIDUAL = str(Path(sys.executable).with_name("residual"))


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, err) == (0, "")
    for name, (_, _, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", out, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], capsys) == run(["-V"], capsys) == (0, f"residual {residual.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(name: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run([name, flag], capsys)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: residual {name} ")
    assert not re.search("[╭╰│]|---{5}|None", out)


MISTAKES = [
    (["shw"], r"There is no command 'shw'\. Did you mean 'show'\?"),
    (["frobnicate"], r"There is no command 'frobnicate'\. Commands: list, show, train"),
    (["--hlep"], r"There is no option '--hlep'\. Did you mean '--help'\?"),
    (["show"], "`residual show` needs NAME"),
    (["show", "--in-channels", "3"], "`residual show` needs NAME"),
    (["show", "resent50"], r"No variant is named 'resent50'\. Did you mean 'resnet50'\?"),
    (["show", "resnet18", "extra"], "`residual show` does not know what to do with 'extra'. `residual show --help`"),
    (["show", "resnet18", "resnet34"], "`residual show` does not know what to do with 'resnet34'. `residual show --help`"),
    (["train", "digits", "resnet18"], r"`residual train` does not know what to do with 'resnet18'. Did you mean --model resnet18\?"),
    (["show", "resnet18", "--in-chanels", "3"], r"no option --in-chanels\. Did you mean '--in-channels'\?"),
    (["show", "resnet18", "--imagesize=3"], r"no option --imagesize\. Did you mean '--image-size'\?"),
    (["show", "resnet18", "-x"], "no option -x"),
    (["show", "resnet18", "--in-channels", "three"], r"--in-channels is 'three', but must be a whole number\."),
    (["show", "resnet18", "--in-channels=3.5"], r"--in-channels is '3\.5', but must be a whole number\."),
    (["show", "resnet18", "--in_channels", "x"], r"--in-channels is 'x', but must be a whole number\."),
    (["show", "resnet18", "--in-channels"], "--in-channels needs a whole number after it"),
    (["show", "resnet18", "--in-channels", "0"], "in_channels is 0, but must be at least 1"),
    (["show", "resnet18", "--depths", "2", "b"], "--depths is '2 b', but must be whole numbers, separated by spaces"),
    (["show", "resnet18", "--depths", "2", "2"], "inner_widths is .* must be 2 numbers"),
    (["show", "resnet18", "--shortcut", "pda"], r"must be one of 'pad', 'projection', 'projection-all', 'none'\. Did you mean 'pad'\?"),
    (["show", "resnet18", "--order", "x"], "must be one of 'original', 'preact', .*, 'bn-after-addition'"),
    (["show", "resnet18", "--image-size", "9x"], "--image-size is '9x', but must be"),
    (["show", "resnet18", "--image-size", "0"], "--image-size is '0'"),
    (["show", "resnet18", "--json=yes"], "--json is a switch and takes no value, but got 'yes'"),
    (["list", "vgg"], r"No variant fits 'vgg'\."),
    (["list", "--bogus", "--other"], "`residual list` has no option --bogus"),
    (["doctor"], "`residual doctor` needs FOLDER"),
    (["doctor", "no/such/folder"], "no/such/folder"),
    (["train", "digits", "--epochs", "many"], "--epochs is 'many', but must be a whole number"),
    (["train", "digits", "--epoch", "3"], "Did you mean '--epochs'"),
    (["predict", "no/such/run", "x.png"], "no/such/run"),
    (["evaluate", "no/such/run"], "no/such/run"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"residual: [^\n]+[.?]\n", err), err
    assert re.search(words, err), err
    assert not re.search("Traceback|[╭╰│]|----", err)


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from residual.cli import models

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(models.List, "run", interrupted)
    assert run(["list"], capsys) == (130, "", "")


def test_a_closed_pipe_is_quiet() -> None:
    command = subprocess.Popen([RESIDUAL, "show", "cifar_resnet1202"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert command.stdout.readline().startswith("cifar_resnet1202")
    command.stdout.close()
    assert command.stderr is not None
    with command.stderr:
        assert command.stderr.read() == ""
    assert command.wait(timeout=60) == 141


def test_a_full_disk_is_one_sentence() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([RESIDUAL, "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"residual: [^\n]+\n", done.stderr)


@pytest.mark.parametrize(("arguments", "seconds"), [(["--help"], 1.5), (["--version"], 1.5), (["list"], 4.0), (["show", "resnet50"], 4.0)])
def test_it_answers_at_once(arguments: list[str], seconds: float) -> None:
    """Processor time, the best of three, several times what it takes (0.1 to 0.4 s): it fails when a framework comes in, however busy the
    machine is."""
    taken = []
    for _ in range(3):
        start = os.times()
        subprocess.run([RESIDUAL, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)
        end = os.times()
        taken.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert min(taken) < seconds
