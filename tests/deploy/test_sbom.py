"""The bill of materials names packages and weights with their licences, and keeps to its schema."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

pytest.importorskip("cyclonedx", reason="needs cyclonedx-bom")

from deploy.sbom import bill
from training.base.artifacts import file_sha256
from training.model.starter import STARTER_MODEL


@pytest.fixture(scope="module")
def components(tmp_path_factory):
    """Of an environment with three packages, of which one is not in the image."""
    environment = tmp_path_factory.mktemp("sbom") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [site] = environment.glob("lib/python*/site-packages")
    for name in ("certifi", "resvg-py", "pytest"):
        [metadata] = [file for file in distribution(name).files if file.name == "METADATA"]
        folder = site / metadata.parent.name
        folder.mkdir()
        (folder / "METADATA").write_text(Path(metadata.locate()).read_text())
    made = bill(str(environment / "bin" / "python"), ["certifi", "resvg-py", "torch"])
    assert made["metadata"]["component"]["name"] == "svdraw"
    [root] = [each for each in made["dependencies"] if each["ref"] == made["metadata"]["component"]["bom-ref"]]
    assert set(root["dependsOn"]) == {each["bom-ref"] for each in made["components"]}
    return {each["name"]: each for each in made["components"]}


def test_it_lists_the_packages_of_the_image(components):
    packages = {name for name, each in components.items() if each["type"] == "library"}
    assert packages == {"certifi", "resvg_py"}
    assert all(each["purl"].startswith("pkg:pypi/") for each in components.values() if each["type"] == "library")


def test_every_component_has_a_licence(components):
    assert all(each["licenses"] for each in components.values())
    assert components["resvg_py"]["licenses"][0]["license"]["name"] == "MIT"  # its metadata name none


def test_it_lists_the_weights_that_ship_with_what_they_were_made_from(components):
    model = components["svdraw starter model"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": file_sha256(STARTER_MODEL / "model.safetensors")}]
    licences = {each["name"]: each["licenses"][0]["license"]["name"] for each in model["components"]}
    assert licences == {
        "Sketchy Database": "LicenseRef-research-only",
        "Quick, Draw!": "CC-BY-4.0",
        "Twemoji": "CC-BY-4.0",
        "Noto Emoji": "OFL-1.1",
        "EfficientNet-Lite0": "Apache-2.0",
    }
