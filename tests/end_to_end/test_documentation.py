"""What docs/api.md tells users to type works as it stands."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from service.client.rest import Client
from tests.end_to_end.conftest import KEY

PAGE = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text()
COMMANDS = re.findall(r"^    (curl (?:.*\\\n)*.*)$", PAGE, flags=re.M)

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.fixture(scope="module")
def folder(deployment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation")
    name = deployment.unseen[0]
    shutil.copy(next((deployment.data / "sketch" / name).iterdir()), folder / "sketch.png")
    shutil.copy(next((deployment.data / "photo" / name).iterdir()), folder / "photo.jpg")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_curl(deployment, folder, command):
    script = command.replace("http://127.0.0.1:8000", deployment.url).replace("curl ", "curl --silent --fail ", 1)
    environment = os.environ | {"KEY": KEY}
    result = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    if "/v1/" in command and " -o " not in command and "DELETE" not in command:
        json.loads(result.stdout)


def test_there_are_commands_for_every_path(deployment):
    with Client(deployment.url) as client:
        paths = client._http.get("/openapi.json").json()["paths"]
    shown = re.sub(r"/photos/\d+", "/photos/{photo_id}", " ".join(COMMANDS))
    assert [path for path in paths if path not in shown and path != "/livez"] == []


def test_python(deployment, folder, monkeypatch, capsys):
    code = textwrap.dedent(re.search(r"( {4}from service\.client.*?)\n\n`AsyncClient", PAGE, flags=re.S).group(1))
    monkeypatch.chdir(folder)
    exec(code.replace("http://127.0.0.1:8000", deployment.url), {"KEY": KEY})
    assert len(capsys.readouterr().out.splitlines()) == 3
