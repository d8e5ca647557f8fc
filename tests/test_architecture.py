"""docs/architecture.md and the tree in CONTRIBUTING.md describe the sources as they are."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("training", "index", "service")
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TREE = (ROOT / "CONTRIBUTING.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

PATH = rf"(?:{'|'.join(PACKAGES)})/[\w./-]*"
DIAGRAMS = re.findall(r"^```mermaid\n(.*?)^```", PAGE, flags=re.M | re.S)
MODULE_NODE = re.compile(r'\w\["([^"]*)"\]')
NODE_NAME = re.compile(r'(?:^|--> *)\s*(\w+)|(\w+)(?=\(?\[")', flags=re.M)


def folders_with_modules(package: str) -> set[str]:
    modules = (path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")
    return {f"{path.parent.relative_to(ROOT)}/" for path in modules}


def rows_of(package: str) -> dict[int, set[str]]:
    """Layer number -> names of the folders and modules that the package's table puts there."""
    section = PAGE.split(f"### `{package}/`", 1)[1].split("\n#", 1)[0]
    layers = defaultdict(set)
    for number, path in re.findall(rf"^\| (\d+) \| `({PATH})` \|", section, flags=re.M):
        layers[int(number)].add(path.removeprefix(f"{package}/").removesuffix("/").removesuffix(".py"))
    return dict(layers)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_modules_has_a_row(package: str) -> None:
    described = {f"{package}/{name}/" for names in rows_of(package).values() for name in names} | {f"{package}/"}
    assert folders_with_modules(package) <= described


@pytest.mark.parametrize("path", sorted(set(re.findall(PATH, PAGE))))
def test_what_the_page_names_exists(path: str) -> None:
    named = ROOT / path
    assert named.is_dir() if path.endswith("/") else named.is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_layers_are_those_of_the_contracts(package: str) -> None:
    contract = next(c for c in CONTRACTS if c["type"] == "layers" and c.get("containers") == [package])
    wanted = [{name.strip() for name in layer.split("|")} for layer in contract["layers"]]
    rows = rows_of(package)
    assert sorted(rows, reverse=True) == list(rows)  # the highest layer comes first
    assert list(rows.values()) == wanted


def test_what_other_packages_may_import_of_training() -> None:
    rooms = next(c["layers"] for c in CONTRACTS if c.get("containers") == ["training"])
    forbidden = next(c for c in CONTRACTS if c["type"] == "forbidden" and c["source_modules"] == ["index", "service"])
    open_to_others = {f"training/{room}/" for room in rooms} - {
        f"{module.replace('.', '/')}/" for module in forbidden["forbidden_modules"]
    }
    sentence = re.search(r"Of `training/`, the other two may import only ([^.]*)\.", PAGE)
    assert sentence is not None
    assert set(re.findall(r"`([^`]+)`", sentence.group(1))) == open_to_others


def test_there_is_a_drawing_for_each_flow() -> None:
    assert len(DIAGRAMS) == 3


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=range(len(DIAGRAMS)))
def test_rectangles_of_the_drawings_are_modules(diagram: str) -> None:
    labels = MODULE_NODE.findall(diagram)
    assert len(labels) >= 5
    for label in labels:
        assert re.fullmatch(PATH, label), label
        assert (ROOT / label).is_dir() if label.endswith("/") else (ROOT / label).is_file(), label


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=range(len(DIAGRAMS)))
def test_every_node_of_the_drawings_has_a_label(diagram: str) -> None:
    edges = diagram.split("\n", 1)[1]
    assert diagram.startswith("flowchart ")
    mentioned = {first or second for first, second in NODE_NAME.findall(edges)}
    labelled = set(re.findall(r'(\w+)\(?\["', edges))
    assert mentioned == labelled


def test_questions_of_newcomers_are_answered() -> None:
    table = PAGE.split("## Where do I change ...", 1)[1].split("\n## ", 1)[0]
    answers = dict(re.findall(r"^\| ([^|`]+?) \| (`.+?) \|$", table, flags=re.M))
    assert "training/fit/losses.py" in answers["the loss"]
    assert "training/model/images.py" in answers["how images are decoded"]
    assert "index/accelerators/" in answers["how vectors are searched"]
    assert "service/access/admission.py" in answers["rate limits and API keys"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tree_for_contributors_shows_every_folder(package: str) -> None:
    block = re.search(rf"^    {package}/\n((?:      \S.*\n)+)", TREE, flags=re.M)
    assert block is not None
    shown = set(re.findall(r"^      (\w+)/", block.group(1), flags=re.M))
    folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"}
    nested = {Path(folder).name for folder in folders_with_modules(package)} - {package}
    assert nested <= shown <= folders
