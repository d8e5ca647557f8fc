"""Attacks are what their names say, and are measured beside honest clients."""

import asyncio
import io
import json
import os
from collections import Counter
from contextlib import closing, contextmanager, suppress

import pytest
from PIL import Image

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from tests.service.conftest import serving, wait_until
from training.model.images import read_image


@pytest.fixture
def attackers(benchmark):
    benchmark("attacks")
    from measurements import attackers

    return attackers


@pytest.fixture
def files(benchmark):
    benchmark("attacks")
    from measurements import hostile_files

    return hostile_files


@pytest.fixture(scope="module")
def gallery(tiny_bundle, shapes, tmp_path_factory):
    path = tmp_path_factory.mktemp("attacked") / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(shapes / "photo"), "cpu")
    return path


@pytest.mark.parametrize(
    ("name", "options", "kind", "size"),
    [
        ("many_scans", {"side": 64, "scans": 50}, "JPEG", (64, 64)),
        ("many_tiles", {"side": 12}, "TIFF", (12, 12)),
        ("tall_strips", {"height": 90, "width": 20}, "TIFF", (20, 90)),
        ("huge_photo", {"side": 300}, "JPEG", (300, 300)),
    ],
)
def test_hostile_files_are_pictures(files, name, options, kind, size):
    content = getattr(files, name)(**options)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert (image.format, image.size) == (kind, size)


def test_a_costly_drawing_is_a_drawing(files):
    assert read_image(files.costly_drawing(1), drawing=True)[0].format == "SVG"


def test_hostile_files_are_small_for_what_they_ask(files):
    assert files.many_scans(64, 50).count(b"\xff\xda") > 50
    assert len(files.many_tiles(100)) < 100 * 100 * 9 + 300
    assert len(files.tall_strips(1000, 1000)) < 1000 * 1000 / 50
    assert files.costly_drawing(3).count(b"<use ") == 30


@pytest.fixture(scope="module")
def url(gallery):
    with serving(gallery=gallery, header_seconds=0.3, body_seconds=0.3, send_seconds=0.3) as url:
        yield url


SEEN = {
    "slow heads": "thrown out",
    "slow bodies": "thrown out",
    "answers not read": "begun",
    "half-closed": "begun",
    "unknown fields": "422",
    "amplifying batches": "",
    "costly filters": "",
    "small requests": "",
    "connections": "begun",
    "huge headers": "200",
    "long queries": "",
    "small chunks": "",
    "upgrades": "200",
    "ranges": "",
}


@pytest.mark.parametrize("name", SEEN)
def test_attackers_get_what_they_come_for(attackers, url, name):
    counts, attack = Counter(), attackers.ATTACKS[name]([])

    async def attack_until_seen():
        task = asyncio.ensure_future(attack(int(url.rsplit(":", 1)[1]), counts))
        await asyncio.to_thread(wait_until, lambda: counts[SEEN[name]] if SEEN[name] else counts.total())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(attack_until_seen())


def test_attackers_go_on_when_they_are_thrown_out(attackers):
    calls = []

    async def thrown_out(port, counts):
        calls.append(port)
        raise ConnectionResetError

    async def attack_for_a_while(counts):
        task = asyncio.ensure_future(attackers._many(2, thrown_out)(7, counts))
        await asyncio.to_thread(wait_until, lambda: counts["thrown out"] >= 6)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(attack_for_a_while(Counter()))
    assert set(calls) == {7}


def test_attacks_are_measured(benchmark, gallery, shapes, tmp_path, capsys, monkeypatch):
    script = benchmark("attacks")
    from measurements import attacks
    from measurements.running_service import RunningService

    @contextmanager
    def here(gallery, folder, **options):
        with serving(gallery=gallery, **options) as url:
            yield RunningService(url, os.getpid())

    monkeypatch.setattr(attacks, "service", here)
    arguments = ["--gallery", gallery, "--sketches", shapes / "sketch", "--clients", 2, "--seconds", 1]
    arguments += ["--attacks", "upgrades", "--json", tmp_path / "figures.json"]
    script.measure(script.parser().parse_args([str(argument) for argument in arguments]))
    [row] = json.loads((tmp_path / "figures.json").read_text())["attacks"]
    assert row["attacked"]["statuses"] == {"200": row["attacked"]["requests"]}
    assert row["recovery_s"] < 20
    assert row["attacker"].keys() <= {"200"}
    assert "| upgrades | 100.0% |" in capsys.readouterr().out


def test_unknown_attacks_are_told(benchmark, shapes):
    script = benchmark("attacks")
    arguments = ["--gallery", ".", "--sketches", str(shapes), "--attacks", "nonsense"]
    with pytest.raises(Exception, match="no attack is called 'nonsense'; there are: nobody, slow heads"):
        script.measure(script.parser().parse_args(arguments))
