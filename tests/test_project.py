"""The files around the sources agree with each other and with the sources."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pydantic_settings import BaseSettings

from index.commands import Index
from service.commands import Serve
from training.base.command_line import run_command
from training.commands import Training

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMPOSE = ["docker-compose.yml", "docker-compose.gpu.yml"]
COMMANDS: dict[str, type[BaseSettings]] = {"training": Training, "index": Index, "service": Serve}


def documented_commands() -> list[str]:
    """Every ``python -m <package> ...`` in the documentation and the Makefile, joined over continued lines."""
    texts = [page.read_text() for page in PAGES] + [(ROOT / "Makefile").read_text()]
    found = set()
    for text in texts:
        for match in re.finditer(r"python -m ((?:training|index|service)\b[^\n`#|&]*)", text.replace("\\\n", " ")):
            found.add(" ".join(match.group(1).split()).rstrip(".,;"))
    return sorted(found)


def test_the_changelog_tells_of_the_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert versions[0] == PROJECT["version"]


def test_every_dependency_is_pinned_inside_its_range() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    wanted = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name == "svdraw" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")]), requirement


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert targets >= {"help", "demo", "test", "lint", "format", "bench"}
    for mention in re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), flags=re.M):
        assert mention in targets


@pytest.mark.parametrize("command", documented_commands())
def test_commands_exist_with_their_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    package, *words = shlex.split(command.replace("[", " ").replace("]", " "))
    subcommands = itertools.takewhile(lambda word: not word.startswith("-"), words)
    with pytest.raises(SystemExit) as stop:
        run_command(COMMANDS[package], [*subcommands, "--help"])
    assert stop.value.code == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}


def test_make_alone_lists_the_targets() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "format", "bench"):
        assert f"make {target} " in listing


def test_compose_files_keep_to_their_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_compose_variables_are_those_of_the_example() -> None:
    used = {name for file in COMPOSE for name in re.findall(r"\$\{(\w+)", (ROOT / file).read_text())}
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), flags=re.M))
    assert used - {"TAG"} == example


def test_compose_builds_targets_of_the_dockerfile() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), flags=re.M)
    targets = [t for file in COMPOSE for t in re.findall(r"target: (\S+)", (ROOT / file).read_text())]
    assert targets == ["cpu", "gpu"]
    assert set(targets) <= set(stages)
    assert stages[-1] == "cpu"  # what `docker build` makes without --target


def test_the_image_gets_what_it_copies() -> None:
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), flags=re.M))
    for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), flags=re.M):
        for source in line.split()[:-1]:
            assert source in kept
            assert (ROOT / source).exists()
