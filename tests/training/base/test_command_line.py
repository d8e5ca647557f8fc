"""A program of two small commands, read, run and explained."""

import subprocess
import sys

import pytest

from training.base.command_line import Command, Program, run_command

SOURCE = """
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, model_validator

from training.base.command_line import Many, Options, Settings


class Form(StrEnum):
    ROUND = "round"
    VERY_LONG = "very-long"


class Draw(Settings):
    paper: str = Field(description="what is drawn on")
    size: int = Field(3, ge=1, description="width of the paper")
    form: Form = Field(Form.ROUND, description="what is drawn")
    colours: Many[Literal["red", "green"]] = Field([], description="what it is drawn with")
    points: Many[int] = Field([], description="where it is drawn")
    as_json: Annotated[bool, Parameter(name="--json")] = Field(False, description="print JSON")

    @model_validator(mode="after")
    def _fits(self):
        if self.size == 13:
            raise ValueError("13 brings bad luck")
        return self


def draw(*, settings: Options[Draw]) -> None:
    print(settings.model_dump_json(exclude_unset=True))


class Fail(Settings):
    how: str = Field(description="exception")


def fail(*, settings: Options[Fail]) -> None:
    import builtins
    from training.base.errors import DataError

    error = {"DataError": DataError}.get(settings.how) or getattr(builtins, settings.how)
    if error is FileNotFoundError:
        Path("/nowhere/at/all").read_text()
    if error is ModuleNotFoundError:
        import a_package_that_nobody_has
    raise error("this happened")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    (tmp_path / "drawing_commands.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "drawing_commands", None)
    monkeypatch.delitem(sys.modules, "drawing_commands")
    commands = [
        Command("art draw", "drawing_commands:draw", "Draw.", "try art draw --paper napkin", "crayons"),
        Command("fail", "drawing_commands:fail", "Fail.", "try fail --how OSError", "crayons"),
    ]
    return Program("try", "Try it.", commands, {"art": "What is beautiful."})


def run(program, capsys, line):
    status = run_command(program, line.split())
    captured = capsys.readouterr()
    return status, captured.out.strip(), captured.err.strip()


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("art draw --paper=napkin", '{"paper":"napkin"}'),
        ("art draw --paper napkin --size 7 --form very-long", '{"paper":"napkin","size":7,"form":"very-long"}'),
        ("art draw --paper a,b --points 1,2 --points 3", '{"paper":"a,b","points":[1,2,3]}'),
        ("art draw --paper a --points -1 --colours green,red", '{"paper":"a","colours":["green","red"],"points":[-1]}'),
        ("art draw --paper a --json", '{"paper":"a","as_json":true}'),
        ("art draw --paper a --no-json", '{"paper":"a","as_json":false}'),
    ],
)
def test_options_reach_the_command(program, capsys, line, printed):
    assert run(program, capsys, line) == (0, printed, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("art draw", "--paper is required, for example: try art draw --paper napkin"),
        ("art draw --papr x", "--paper is required, --papr is no option, for example: try art draw --paper napkin"),
        ("art draw --paper", "--paper needs a value, for example: try art draw --paper napkin"),
        ("art draw --paper a --paper b", "parameter --paper specified multiple times"),
        ("art draw --paper a b", "'b' follows no option, for example: try art draw --paper napkin"),
        ("art draw --paper a --sice 3", "unknown option: --sice. Did you mean --size?"),
        ("art draw --paper a --zzz 3", "unknown option: --zzz; --help lists the options of art draw"),
        ("art draw --paper a --size 0", "--size: Input should be greater than or equal to 1"),
        ("art draw --paper a --form ROUND", "--form: Input should be 'round' or 'very-long'"),
        ("art draw --paper a --colours red,blue", "--colours: Input should be 'red' or 'green'"),
        ("art draw --paper a --json=maybe", 'invalid value for --json: unable to convert "maybe" into bool'),
        ("art draw --paper a --size 13", "13 brings bad luck"),
        ("art draw --paper a --size x --points x", "--size: Input should be a valid integer"),
        ("fial", 'unknown command "fial". Did you mean "fail"?'),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(program, capsys, line, message):
    status, out, err = run(program, capsys, line)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("DataError", 1, "this happened"),
        ("OSError", 1, "this happened"),
        ("FileNotFoundError", 1, "No such file or directory: /nowhere/at/all"),
        ("KeyboardInterrupt", 130, "interrupted; run the same command again to go on"),
        (
            "ModuleNotFoundError",
            1,
            'svdraw fail needs more packages (a_package_that_nobody_has is missing): pip install "svdraw[crayons]"',
        ),
    ],
)
def test_failures_are_one_line_with_a_status(program, capsys, how, status, message):
    assert run(program, capsys, f"fail --how {how}") == (status, "", f"error: {message}")


@pytest.mark.parametrize("how", ["ZeroDivisionError", "ImportError"])
def test_faults_of_the_program_itself_are_not_hidden(program, how):
    with pytest.raises((ZeroDivisionError, ImportError), match="this happened"):
        run_command(program, ["fail", "--how", how])


def test_help_lists_nested_commands_and_imports_none(program, capsys):
    status, out, _ = run(program, capsys, "--help")
    assert status == 0
    assert "art draw" in out
    assert "drawing_commands" not in sys.modules


def test_help_of_a_command_tells_all_about_its_options(program, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    _, out, _ = run(program, capsys, "art draw --help")
    [line] = [line for line in out.splitlines() if "--form" in line]
    for part in ("what is drawn", "choices: round, very-long", "SVDRAW_ART_DRAW_FORM", "default: round"):
        assert part in line
    assert "try art draw --paper napkin" in out


@pytest.mark.parametrize(
    ("variable", "value", "line", "printed"),
    [
        ("SIZE", "5", "", '{"paper":"a","size":5}'),
        ("SIZE", "5", "--size 6", '{"paper":"a","size":6}'),
        ("POINTS", "1,2", "", '{"paper":"a","points":[1,2]}'),
        ("JSON", "1", "", '{"paper":"a","as_json":true}'),
        ("PAPER", "two words", "", '{"paper":"a"}'),
    ],
)
def test_the_environment_sets_what_the_command_line_does_not(
    program, capsys, monkeypatch, variable, value, line, printed
):
    monkeypatch.setenv(f"SVDRAW_ART_DRAW_{variable}", value)
    assert run(program, capsys, f"art draw --paper a {line}") == (0, printed, "")


def test_a_required_option_may_come_from_the_environment(program, capsys, monkeypatch):
    monkeypatch.setenv("SVDRAW_ART_DRAW_PAPER", "two words")
    assert run(program, capsys, "art draw") == (0, '{"paper":"two words"}', "")


def test_a_wrong_variable_is_named(program, capsys, monkeypatch):
    monkeypatch.setenv("SVDRAW_ART_DRAW_SIZE", "0")
    assert "error: SVDRAW_ART_DRAW_SIZE: Input should be" in run(program, capsys, "art draw --paper a")[2]


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SVDRAW_ART_DRAW_SICE", "did you mean SVDRAW_ART_DRAW_SIZE?"),
        ("SVDRAW_ARTS_DRAW_SIZE", "did you mean SVDRAW_ART_DRAW_SIZE?"),
        ("SVDRAW_ZZZ", "--help of a command lists its variables"),
    ],
)
def test_a_variable_that_no_command_knows_is_warned_of(program, caplog, monkeypatch, variable, hint):
    monkeypatch.setenv(variable, "1")
    assert run_command(program, ["art", "draw", "--paper", "a"]) == 0
    assert caplog.messages == [f"warning: no command knows the variable {variable}; {hint}"]


@pytest.mark.parametrize("variable", ["SVDRAW_ART_DRAW_SIZE", "SVDRAW_FAIL_HOW", "OTHER_SICE"])
def test_variables_of_any_command_are_not_warned_of(program, caplog, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    run_command(program, ["art", "draw", "--paper", "a"])
    assert caplog.messages == []


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path):
    code = "import sys; sys.stdout.write('x' * 100_000); sys.stdout.flush()"
    (tmp_path / "chatty.py").write_text(
        "from training.base.command_line import Options, Settings\n\n\n"
        "class Talk(Settings):\n    to: str\n\n\n"
        f"def talk(*, settings: Options[Talk]) -> None:\n    {code}\n"
    )
    script = (
        "from training.base.command_line import *; import sys; sys.exit("
        "run_command(Program('try', '', [Command('talk', 'chatty:talk', '', '', '')]), ['talk', '--to', 'head']))"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}", "PATH": "/usr/bin:/bin"}
    command = ["bash", "-c", '"$0" -c "$1" | head -c 1 >/dev/null; exit "${PIPESTATUS[0]}"', sys.executable, script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
