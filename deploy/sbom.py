"""Writes what the container image contains as a bill of materials, in the JSON format of CycloneDX.

    python -m deploy.sbom sbom.json

It lists the packages of ``deploy/image.lock`` as they are installed in this environment, and the weights that ship with
svdraw, with what they were made from. The base image is not part of it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.licences import LOCK, licence_of, locked
from training.base.artifacts import file_sha256, write_text
from training.model.bundle import WEIGHTS_NAME
from training.model.hub import SHIPPED_MODELS
from training.model.starter import Source, read_terms

__all__ = ["bill", "main"]

ROOT = Path(__file__).parent.parent


def bill(python: str, names: Iterable[str]) -> dict[str, Any]:
    """The bill of materials of svdraw with some of the packages of an environment.

    Args:
        python: interpreter of the environment.
        names: names of the packages, in lower case with hyphens.

    Raises:
        ValueError: if the result breaks the schema of CycloneDX.
    """
    command = ["cyclonedx-py", "environment", "--output-format=JSON", f"--pyproject={ROOT / 'pyproject.toml'}", python]
    tool = Path(sys.executable).with_name(command[0])
    made = subprocess.run([tool, *command[1:]], stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(made)
    wanted = set(names)
    packages = [each for each in found["components"] if _name(each) in wanted]
    for package in packages:
        if not package.get("licenses"):
            package["licenses"] = _licence(licence_of(_name(package), metadata(package["name"])))
    models = [_model(directory) for directory in SHIPPED_MODELS]
    root = found["metadata"]["component"]["bom-ref"]
    kept = {each["bom-ref"] for each in packages}
    found["components"] = packages + models
    found["dependencies"] = [
        {**each, "dependsOn": [other for other in each.get("dependsOn", ()) if other in kept]}
        for each in found["dependencies"]
        if each["ref"] in kept
    ]
    found["dependencies"].append({"ref": root, "dependsOn": sorted(kept) + [each["bom-ref"] for each in models]})
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found)):
        raise ValueError(f"the bill of materials breaks the schema of CycloneDX: {error.data}")
    return found


def _name(component: dict[str, Any]) -> str:
    return str(component["name"]).lower().replace("_", "-").replace(".", "-")


def _licence(name: str) -> list[dict[str, Any]]:
    return [{"license": {"name": name, "acknowledgement": "declared"}}]


def _model(directory: Path) -> dict[str, Any]:
    terms = read_terms(directory)
    return {
        "type": "machine-learning-model",
        "bom-ref": terms.name,
        "name": terms.name,
        "version": metadata("svdraw")["Version"],
        "description": terms.summary,
        "hashes": [{"alg": "SHA-256", "content": file_sha256(directory / WEIGHTS_NAME)}],
        "licenses": [_licence(each)[0] for each in dict.fromkeys(source.licence for source in terms.sources)],
        "components": [_source(terms.name, source) for source in terms.sources],
    }


def _source(model: str, source: Source) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"{model}: {source.name}",
        "name": source.name,
        "description": source.what,
        "supplier": {"name": source.by, "url": [source.url]},
        "licenses": _licence(source.licence),
    }


def main(out: Path) -> None:
    """Writes the bill of materials of this environment."""
    content = bill(sys.executable, [requirement.name for requirement in locked(LOCK.read_text())])
    write_text(out, json.dumps(content, indent=2) + "\n")
    print(f"{out}: {len(content['components'])} components")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
