"""Commands of benchmarks that are written down are understood, and what is wrong with one is said in a line."""

import ast
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.bench.conftest import BENCH, SCRIPTS

ROOT = BENCH.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")), ROOT / "Makefile"]
SCRIPT = r"bench/(\w+)\.py\b"


def docstring(name):
    return ast.get_docstring(ast.parse((BENCH / f"{name}.py").read_text()))


def found_in_texts():
    """Name and arguments of every benchmark that is named, joined over continued lines; and whether it is a command."""
    texts = [page.read_text() for page in PAGES] + [docstring(name) for name in SCRIPTS]
    found = set()
    for text in texts:
        text = re.sub(r"\$[({]\w+[)}]", "", text.replace("\\\n", " "))
        for match in re.finditer(rf"python[\d.]* {SCRIPT}([^\n`|&>]*)", text):
            found.add((match[1], match[2].partition(" #")[0].strip(), True))
        for match in re.finditer(rf"`{SCRIPT}([^`]*)`", text):
            found.add((match[1], " ".join(match[2].replace("...", "").split()), False))
    return sorted(found)


def run(name, *arguments):
    """With the standard library and nothing else."""
    command = [sys.executable, "-S", str(BENCH / f"{name}.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize(("name", "arguments", "whole"), found_in_texts())
def test_commands_are_understood(name, arguments, whole, benchmark):
    parser, words = benchmark(name).parser(), shlex.split(arguments)
    if not whole:  # a sentence names some options, the last perhaps without a value
        assert {word for word in words if word.startswith("--")} <= parser._option_string_actions.keys()
        words = words[:-1] if words and words[-1].startswith("--") else words
        for action in parser._actions:
            if action.required and not set(action.option_strings) & set(words):
                words += [action.option_strings[0], "SOMETHING"]
    parser.parse_args(words)


def test_commands_are_found_in_texts():
    assert {name for name, _, whole in found_in_texts() if whole} == set(SCRIPTS)
    assert len(found_in_texts()) > len(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_needs_no_package(name):
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert docstring(name).splitlines()[0] in result.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_unknown_options_are_told_in_one_line(name):
    result = run(name, "--nonsense", 1)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_wrong_values_are_told_in_one_line(name, benchmark):
    for action in benchmark(name).parser()._actions:
        if action.choices or (action.type not in (None, str, float) and action.type.__name__ in ("positive", "share")):
            result = run(name, action.option_strings[0], "-7x")
            assert (result.returncode, result.stderr.count("\n")) == (2, 1)
            assert action.option_strings[0] in result.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("classes", ["--data", "missing"]),
        ("quickdraw", ["--strokes", "missing", "--photos", ".", "--out", "unwritten"]),
        ("feedback", ["--data", "missing", "--model", ".", "--split", "sketchy-1"]),
        ("retrieval", ["--data", "missing", "--out", "unwritten"]),
        ("service_load", ["--gallery", "missing", "--sketches", "."]),
        ("attacks", ["--gallery", "missing", "--sketches", "."]),
        ("embeddings", ["--sketches", "missing", "--photos", ".", "--out", "unwritten"]),
        ("indexing", ["--photos", "missing"]),
        ("capacity", ["--scratch", "missing"]),
        ("inks", ["--data", "missing"]),
    ],
)
def test_missing_folders_are_told_in_one_line(name, arguments):
    result = run(name, *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "missing: there is no such folder" in result.stderr


def test_missing_packages_are_told_in_one_line():
    result = run("operator_derivatives")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert 'is missing; install what benchmarks need: pip install -c constraints.txt -e ".[dev,bench]"' in result.stderr
