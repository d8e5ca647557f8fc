"""Indexing, serving, searching and the tools for assistants talk to nobody but each other.

The commands run as processes of their own, in a network that has nothing but the loopback device, with every extra that
is installed here. What Python code asks for is recorded by an audit hook in each process; what other code asks for, the
kernel counts, because there is no route to it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

pytest.importorskip("mcp")

ROOT = Path(__file__).parent.parent.parent

_RECORDER = """
import os, sys

def record(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        told = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        told = arguments[1][0]
    else:
        return
    with open(os.environ["ASKED"], "a") as file:
        file.write(f"{told}\\n")

sys.addaudithook(record)
"""

_PROGRAM = """
import base64, json, os, signal, socket, struct, subprocess, sys
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

import anyio, httpx, mcp
from mcp.client.stdio import StdioServerParameters

model, photos, sketch = map(Path, sys.argv[1:4])
SVDRAW = [sys.executable, "-c", "import sys; from service.commands import main; sys.exit(main())"]

def lost():
    "Packets for which there was no route."
    if not own:
        return 0
    counts = dict(line.split()[:2] for line in Path("/proc/net/snmp6").read_text().splitlines())
    names, numbers = [line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines()[:2]]
    return int(dict(zip(names, numbers))["OutNoRoutes"]) + int(counts["Ip6OutNoRoutes"])

async def tools(url):
    program, *arguments = [*SVDRAW, "mcp", "--service", url]
    process = StdioServerParameters(command=program, args=arguments, env=dict(os.environ))
    async with mcp.Client(process) as assistant:
        found = await assistant.call_tool("search_by_sketch", {"path": "M 40 200 L 128 40 L 216 200 Z", "limit": 2})
        assert not found.is_error

own = "--alone" in sys.argv
if own:
    with socket.socket() as device:
        ioctl(device, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
before = lost()
if "--reach-out" in sys.argv:
    subprocess.run(["bash", "-c", "exec 3<> /dev/tcp/192.0.2.1/80"], stderr=subprocess.DEVNULL)
else:
    build = f"index build --model {model} --photos {photos} --out gallery --device cpu"
    subprocess.run([*SVDRAW, *build.split()], check=True, stdout=sys.stderr)
    held = socket.socket()  # it does not listen, so the service can
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    serve = f"serve --gallery gallery --port {port} --device cpu --runtime onnx"
    with subprocess.Popen([*SVDRAW, *serve.split()]) as server:
        client = httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=20), timeout=60)
        while client.get("/readyz").status_code != 200:
            assert server.poll() is None
        image = base64.b64encode(sketch.read_bytes()).decode()
        answers = [client.post("/v1/search", json={"image": image})]
        answers += [client.post("/v1/embeddings", json={"input": image})]
        answers += [client.get(path) for path in ("/", "/docs", "/metrics", "/v1/photos/1/image")]
        assert [answer.status_code for answer in answers] == [200] * 6, answers
        anyio.run(tools, url)
        server.send_signal(signal.SIGTERM)
print(json.dumps({"asked": sorted(set(Path(os.environ["ASKED"]).read_text().split())), "lost": lost() - before}))
"""


def namespace():
    """Command that runs another with no network but its own loopback device; empty where that is not allowed."""
    command = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []


def run(tmp_path, *arguments):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(_RECORDER)
    (tmp_path / "asked").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "OTEL_", "SVDRAW_"))}
    environment = kept | {
        "ASKED": str(tmp_path / "asked"),
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path / 'hook'}:{ROOT}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [
        *namespace(),
        sys.executable,
        "-c",
        _PROGRAM,
        *map(str, arguments),
        *(["--alone"] if namespace() else []),
    ]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(tiny_bundle, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outbound")
    return run(folder, tiny_bundle, shapes / "photo", shapes / "sketch" / "circle" / "circle-1.png"), folder


def test_nobody_is_asked_for(seen):
    assert seen[0]["asked"] == ["127.0.0.1"]


def test_nothing_is_sent_by_code_that_is_not_python(seen):
    if not namespace():
        pytest.skip("needs unshare, and the right to use it")
    assert seen[0]["lost"] == 0


def test_nothing_is_kept_to_be_sent_later(seen):
    kept = [path.name for path in seen[1].rglob("*") if path.is_file()]
    assert any(name.endswith(".onnx") for name in kept)  # ONNX Runtime was used
    assert not {"deviceid", "onnxruntime.db"} & set(kept)  # an identity, and reports that wait to be sent


def test_the_check_notices_code_that_reaches_out(tmp_path):
    if not namespace():
        pytest.skip("needs unshare, and the right to use it")
    assert run(tmp_path, *"abc", "--reach-out")["lost"] > 0
