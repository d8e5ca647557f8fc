"""What the image contains may be passed on."""

import sys
from email.message import Message

import pytest

from deploy.licences import LOCK, forbidden, licence_of, locked, main


def facts(**fields):
    message = Message()
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            message[name.replace("_", "-")] = each
    return message


@pytest.mark.skipif(sys.platform != "linux", reason="the image's packages are those for Linux")
def test_every_package_of_the_image_has_a_licence_that_is_allowed(capsys):
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(locked(LOCK.read_text()))) > 100
    assert any(line.startswith("torch ") for line in lines)


@pytest.mark.parametrize(
    ("given", "licence"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License": "MIT License"}, "MIT"),
        ({"License": "UNKNOWN"}, "unknown"),
        ({}, "unknown"),
        (
            {"License": "Copyright\nall of the text", "Classifier": ["License :: OSI Approved :: BSD License"]},
            "BSD-3-Clause",
        ),
        (
            {
                "License": "BSD-3-Clause",
                "Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            },
            "BSD-3-Clause AND GNU General Public License v3 (GPLv3)",
        ),
    ],
)
def test_licences_are_read_from_metadata(given, licence):
    assert licence_of("some-package", facts(**given)) == licence


@pytest.mark.parametrize(
    ("expression", "refused"),
    [
        ("MIT AND (Apache-2.0 WITH LLVM-exception OR BSD-3-Clause)", []),
        ("GPL-3.0-or-later", ["GPL-3.0-or-later"]),
        ("MIT AND AGPL-3.0-only", ["AGPL-3.0-only"]),
        ("unknown", ["unknown"]),
        ("BSD-3-Clause AND GNU General Public License v3 (GPLv3)", ["GNU General Public License v3 (GPLv3"]),
    ],
)
def test_what_is_not_known_to_be_allowed_is_refused(expression, refused):
    assert forbidden(expression) == refused


def test_a_refused_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr("deploy.licences.locked", lambda lock: list(locked("pillow-jxl-plugin==1.3.8 \\\n")))
    assert main() == 1
    assert "pillow-jxl-plugin: GPL-3.0-or-later" in capsys.readouterr().err
