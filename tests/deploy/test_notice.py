"""Whoever gets svdraw gets the terms of what comes with it."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from training.model.hub import SHIPPED_MODELS
from training.model.starter import read_terms

pytest.importorskip("hatchling", reason="needs hatchling")

ROOT = Path(__file__).parent.parent.parent
NOTICE = (ROOT / "NOTICE").read_text()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Names of the files in the wheel and in the source archive, below their folder."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", out, "-t", "wheel", "-t", "sdist"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel], [source] = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        read = {name: archive.read(name) for name in archive.namelist() if name.endswith("/NOTICE")}
        in_wheel = set(archive.namelist())
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    return in_wheel, in_source, read


def test_wheel_and_source_archive_have_the_notice(files):
    in_wheel, in_source, read = files
    [content] = read.values()
    assert content.decode() == NOTICE
    assert any(re.fullmatch(r"svdraw-[\d.]+\.dist-info/licenses/LICENSE", name) for name in in_wheel)
    assert {"NOTICE", "LICENSE"} <= in_source
    for directory in SHIPPED_MODELS:
        folder = directory.relative_to(ROOT)
        for name in ("terms.json", "model.json", "model.safetensors"):
            assert f"{folder}/{name}" in in_wheel
            assert f"{folder}/{name}" in in_source


def test_the_wheel_has_only_the_packages(files):
    in_wheel, _, _ = files
    assert {name.partition("/")[0] for name in in_wheel if ".dist-info" not in name} == {"service", "index", "training"}


@pytest.mark.parametrize("directory", SHIPPED_MODELS, ids=lambda directory: directory.name)
def test_the_notice_names_every_source_of_the_weights(directory):
    terms = read_terms(directory)
    assert str(directory.relative_to(ROOT)) in NOTICE
    for source in terms.sources:
        assert source.name in NOTICE
        assert source.url in NOTICE
    assert ("LicenseRef-research-only" in {s.licence for s in terms.sources}) == (
        "offered for research" in terms.summary
    )


def test_every_model_that_ships_has_terms():
    shipped = {file.parent for file in (ROOT / "training" / "model").rglob("*.safetensors")}
    assert shipped == set(SHIPPED_MODELS)
    assert all(read_terms(directory).sources for directory in shipped)
