"""What the image installs is named with its hashes, and is what the tests ran with."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
LOCKS = ["image.lock", "build.lock"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
MACHINES = [LINUX | {"platform_machine": machine} for machine in ("x86_64", "aarch64")]


def entries(name):
    """Requirement and hashes of each entry of a lock."""
    text = (ROOT / "deploy" / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            yield Requirement(requirement), [each.strip() for each in hashes]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(name): version for name, version in (each.split("==") for each in lines if each[0] != "#")
    }


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_one_version_with_hashes(name):
    for requirement, hashes in entries(name):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_place(name):
    text = (ROOT / "deploy" / name).read_text()
    assert "//" not in text
    assert not re.search(r"^\s*-", re.sub(r"^ +--hash=.*", "", text, flags=re.M), flags=re.M)  # no option either


@pytest.mark.parametrize("name", LOCKS)
def test_locks_agree_with_the_constraints(name):
    """All but faiss-cpu, which another kind of machine installs than the one that the tests run on."""
    known = pins()
    unknown = set()
    for requirement, _ in entries(name):
        if requirement.name not in known:
            unknown.add(requirement.name)
        else:
            assert str(requirement.specifier) == f"=={known[requirement.name]}"
    assert unknown <= {"faiss-cpu"}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["platform_machine"])
def test_the_lock_has_what_the_image_needs(machine):
    makefile = (ROOT / "Makefile").read_text()
    extras = re.search(r"^IMAGE_EXTRAS := (.*)", makefile, flags=re.M)[1].split()
    left_out = set(re.findall(r"--no-emit-package (\S+)", makefile))
    assert {"service", "training"} <= set(extras)
    applying = lambda requirement: requirement.marker is None or requirement.marker.evaluate(machine)  # noqa: E731
    locked = {r.name: r.specifier for r, _ in entries("image.lock") if applying(r)}
    wanted = [*PYPROJECT["project"]["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if applying(requirement) and name not in left_out:
            [version] = locked[name]
            assert requirement.specifier.contains(version.version), requirement
    assert not left_out & set(locked)


def test_the_wheel_is_built_by_what_is_locked():
    locked = {requirement.name: requirement.specifier for requirement, _ in entries("build.lock")}
    for requirement in map(Requirement, PYPROJECT["build-system"]["requires"]):
        [version] = locked[requirement.name]
        assert requirement.specifier.contains(version.version)


def test_the_image_installs_nothing_but_what_is_locked():
    installs = re.findall(r"pip (?:install|wheel|download) .*", DOCKERFILE)
    assert len(installs) == 5
    for command in installs:
        named = "--require-hashes --only-binary :all: --requirement" in command
        built = "--no-deps" in command and ("/dist/*.whl" in command or "--no-build-isolation" in command)
        assert named or built, command


def test_the_image_starts_from_one_image_that_can_be_pinned():
    images = re.findall(r"^FROM (\S+)(?: AS (\S+))?", DOCKERFILE, flags=re.M)
    stages = {stage for _, stage in images}
    assert {image for image, _ in images} - stages == {"${PYTHON_IMAGE}"}
    assert not re.search(r"^# *syntax *=", DOCKERFILE, flags=re.M)  # which would be one more image to pull


DIGEST = "sha256:" + "a1" * 32


@pytest.fixture
def pin(tmp_path):
    """Runs deploy/pin_images.sh with a ``docker`` that prints the text given."""
    (tmp_path / "bin").mkdir()

    def pin(told, status=0):
        docker = tmp_path / "bin" / "docker"
        docker.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\necho "{told}"\nexit {status}\n')
        docker.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        command = [ROOT / "deploy" / "pin_images.sh", tmp_path / "env"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return pin


def test_digests_are_written_beside_other_settings(pin, tmp_path):
    (tmp_path / "env").write_text("PORT=9000\nPYTHON_IMAGE=python:3.10@sha256:old\n")
    result = pin(DIGEST)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "env").read_text().splitlines()
    assert lines[0] == "PORT=9000"
    written = dict(line.split("=", 1) for line in lines[1:])
    assert written["PYTHON_IMAGE"] == f"python:3.11-slim@{DIGEST}"
    assert set(written) == {"PYTHON_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", "PROXY_IMAGE"}
    assert all(image.endswith(f"@{DIGEST}") for image in written.values())
    assert (tmp_path / "asked").read_text().count("buildx imagetools inspect") == 4
    again = pin(DIGEST)
    assert again.returncode == 0
    assert (tmp_path / "env").read_text().splitlines() == lines


@pytest.mark.parametrize(("told", "status"), [("", 0), ("sha256:short", 0), ("no such image", 1), (DIGEST, 1)])
def test_what_is_no_digest_is_not_written(pin, tmp_path, told, status):
    (tmp_path / "env").write_text("PORT=9000\n")
    result = pin(told, status)
    assert result.returncode == 1
    assert "digest" in result.stderr
    assert (tmp_path / "env").read_text() == "PORT=9000\n"
    assert not list(tmp_path.glob("env.*"))
