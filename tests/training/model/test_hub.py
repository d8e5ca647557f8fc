"""Models by name on a hub: a stub of one answers on a socket; the client's own cache lies in a folder of the test."""

import base64
import hashlib
import json
import re
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from index.gallery.directory import Gallery
from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import BundleError
from training.model import hub as hub_module
from training.model.bundle import load_bundle, set_calibration, set_int8
from training.model.calibration import Calibration, Coefficients
from training.model.hub import HubName
from training.model.manifest import read_manifest
from training.model.publication import model_card

huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as fetching and publishing need; its repositories lie in ``self.server.repositories``."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        name, revision, rest = self.parsed(path)
        if name not in self.server.repositories:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        versions = self.server.repositories[name]
        commit = versions["refs"].get(revision, revision)
        if commit not in versions:
            return self.answer(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
        files = versions[commit]
        if path.startswith("/api/") and "/tree/" in path:
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in files.items()
            ]
            return self.answer(200, entries)
        if path.startswith("/api/"):
            return self.answer(200, {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]})
        content = files[rest]
        return self.answer(
            200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit, Accept_Ranges="bytes"
        )

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            self.server.repositories.setdefault(name, {"refs": {}})
            self.server.private[name] = wanted.get("private") or wanted.get("visibility") == "private"
            return self.answer(200, {"url": f"{huggingface_hub.constants._HF_DEFAULT_ENDPOINT}/{name}"})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            name, revision, _ = self.parsed(self.path)
            add(self.server, name, files, revision)
            commit = self.server.repositories[name]["refs"][revision]
            address = f"{huggingface_hub.constants._HF_DEFAULT_ENDPOINT}/{name}/commit/{commit}"
            return self.answer(200, {"commitOid": commit, "commitUrl": address, "pullRequestUrl": None})
        return self.answer(200, {})

    @staticmethod
    def parsed(path):
        pattern = r"(?:/api/models)?/([^/]+/[^/]+)(?:/(?:revision|tree|resolve|commit)/([^/]+)(?:/(.*))?)?"
        match = re.fullmatch(pattern, path)
        return match[1], match[2] or "main", match[3]


def add(server, name, files, revision="main"):
    """Adds a version of a repository, and returns its commit."""
    commit = hashlib.sha1(b"".join(files.values())).hexdigest()
    repository = server.repositories.setdefault(name, {"refs": {}})
    repository[commit] = files
    repository["refs"][revision] = commit
    return commit


@contextmanager
def serve():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories, server.private, server.asked = {}, {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serve() as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        hub_module._fetched.cache_clear()
        yield server
        hub_module._fetched.cache_clear()


@pytest.fixture
def files(tiny_bundle):
    return {name: (tiny_bundle / name).read_bytes() for name in ("model.json", "model.safetensors")}


def test_a_model_is_taken_by_its_name(hub, files, tiny_bundle, tmp_path):
    add(hub, "org/model", files | {"other.bin": b"large"})
    digest = read_manifest(tiny_bundle).digest
    assert load_bundle(Path("hf://org/model"), "cpu").digest == digest
    assert not any("other.bin" in path for path in hub.asked)
    with closing(Gallery.create(tmp_path / "gallery", Path("hf://org/model"))) as gallery:
        assert read_manifest(gallery.model_directory).digest == digest


def test_a_quantised_model_comes_with_its_ranges(hub, int8_bundle):
    add(hub, "org/model", {file.name: file.read_bytes() for file in int8_bundle.iterdir()})
    assert load_bundle(Path("hf://org/model"), "cpu").int8("photo").is_default


def test_a_revision_stays_what_it_was(hub, files):
    first = add(hub, "org/model", files)
    manifest = json.loads(files["model.json"]) | {"created": "later"}
    add(hub, "org/model", files | {"model.json": json.dumps(manifest).encode()})
    assert read_manifest(Path("hf://org/model")).created == "later"
    assert read_manifest(Path(f"hf://org/model@{first}")).created != "later"


def test_it_is_kept_for_times_without_network(hub, files, monkeypatch):
    add(hub, "org/model", files)
    load_bundle(Path("hf://org/model"), "cpu")
    hub_module._fetched.cache_clear()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    asked = len(hub.asked)
    assert load_bundle(Path("hf://org/model"), "cpu").dim
    assert len(hub.asked) == asked
    with pytest.raises(BundleError, match=r"hf://org/another cannot be fetched \(.*check the network"):
        load_bundle(Path("hf://org/another"), "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://org/nothing", "the hub has no hf://org/nothing"),
        ("hf://org/model@v9", "org/model has no revision 'v9'"),
        ("hf://org/empty", "is no svdraw model: it has no model.json"),
        ("hf://org/half", "is no svdraw model: it has no model.safetensors"),
        ("hf://org", "names no model on a hub"),
        ("hf://org/model/file", "names no model on a hub"),
        ("hf://org/mo del", "names no model on a hub"),
        ("hf://org/--model", "cannot be a name on the hub"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(hub, files, name, message):
    add(hub, "org/model", files)
    add(hub, "org/empty", {"README.md": b"# no model"})
    add(hub, "org/half", {"model.json": files["model.json"]})
    with pytest.raises(BundleError, match=re.escape(message)) as caught:
        read_manifest(Path(name))
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_are_not_those_of_the_manifest_are_refused(hub, files):
    add(hub, "org/model", files | {"model.safetensors": files["model.safetensors"][:-1] + b"!"})
    with pytest.raises(BundleError, match=r"is not the file that model\.json describes"):
        load_bundle(Path("hf://org/model"), "cpu")


def test_a_model_is_published_and_taken_again(hub, tiny_bundle, capsys):
    assert run_command(TRAINING, ["push", "--model", str(tiny_bundle), "--to", "hf://org/mine", "--private"]) == 0
    [name] = re.findall(r"hf://\S+", capsys.readouterr().out)
    assert hub.private["org/mine"]
    assert set(hub.repositories["org/mine"][name.partition("@")[2]]) == {
        "README.md",
        "model.json",
        "model.safetensors",
    }
    assert read_manifest(Path(name)) == read_manifest(tiny_bundle)


def test_without_the_right_token_nothing_is_published(hub, tiny_bundle, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert run_command(TRAINING, ["push", "--model", str(tiny_bundle), "--to", "hf://org/mine"]) == 1
    error = capsys.readouterr().err
    assert "hf auth login" in error
    assert len(error.splitlines()) == 1
    assert hub.repositories == {}


def test_the_card_tells_of_the_bundle(tiny_bundle):
    manifest = read_manifest(tiny_bundle)
    card = model_card(manifest, HubName("org/mine", None))
    assert "--model hf://org/mine" in card
    assert manifest.digest in card
    assert f"| dimensions | {len(manifest.spectrum)} |" in card
    many = manifest.model_copy(
        update={"training": manifest.training.model_copy(update={"classes": tuple(f"c{n}" for n in range(250))})}
    )
    assert "250 classes: c0, c1," in model_card(many, HubName("org/mine", None))
    assert "c199 and 50 more" in model_card(many, HubName("org/mine", None))


def test_nothing_is_changed_on_a_hub(hub, files):
    add(hub, "org/model", files)
    calibration = Calibration(
        coefficients=(Coefficients(dimensions=1, slope=1, size=0, offset=0),), classes=1, queries=1
    )
    with pytest.raises(BundleError, match="calibrate a copy"):
        set_calibration(Path("hf://org/model"), calibration)
    with pytest.raises(BundleError, match="quantise a copy"):
        set_int8(Path("hf://org/model"), {}, lambda sha256: pytest.fail("written"))
