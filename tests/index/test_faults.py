"""Jobs killed at random moments, full disks, readers during switches. SVDRAW_TEST_KILLS sets the number of kills."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.gallery.generations import load_generation, read_generation
from index.gallery.searcher import Searcher
from index.jobs import compact, index_photos, remove_photos, sync_photos
from index.sources import list_photos
from tests.conftest import SHAPES, draw_shape
from tests.index.conftest import decaying

KILLS = int(os.environ.get("SVDRAW_TEST_KILLS", "8"))
REMOVED = list(range(1, 40, 3))
JOBS = ["build", "add", "remove", "sync", "compact"]


def run_job(job, path, model, folder, started):
    """Runs in a process of its own."""
    started.set()
    if job == "build":
        with closing(Gallery.create(path, model)) as gallery:
            index_photos(gallery, list_photos(folder), "cpu")
        return
    with closing(Gallery.open(path, write=True)) as gallery:
        if job == "add":
            index_photos(gallery, list_photos(folder / "more"), "cpu")
        elif job == "remove":
            remove_photos(gallery, REMOVED)
        elif job == "sync":
            sync_photos(gallery, folder, "cpu")
        else:
            compact(gallery)


def state(path):
    """What a gallery holds: facts, content and vectors by URI; and its ids, which no two photos share."""
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []
        ids, vectors = gallery.catalogue.vectors(16)
        photos = gallery.catalogue.photos(ids.tolist())
    assert Searcher.open(path, "cpu").count == len(ids)
    rows = {photos[i].uri: (photos[i].sha256, vector) for i, vector in zip(ids.tolist(), vectors, strict=True)}
    assert len(rows) == len(ids)
    return rows


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")  # forks from a process that has imported everything once
    context.set_forkserver_preload(["tests.index.test_faults"])
    return context


@pytest.fixture(scope="module")
def scene(tiny_bundle, tmp_path_factory):
    """A folder of pictures, a gallery of most of them, and what every job must lead to."""
    root = tmp_path_factory.mktemp("faults")
    folder = root / "photos"
    for part, variants in (("first", range(40)), ("more", range(40, 60))):
        (folder / part).mkdir(parents=True)
        for shape in SHAPES:
            for variant in variants:
                draw_shape(shape, variant, filled=True, size=64 + variant).save(folder / part / f"{shape}{variant}.png")
    (folder / "more" / "broken.png").write_text("no picture")
    with closing(Gallery.create(root / "before", tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(folder / "first"), "cpu")
    expected = {}
    for job in JOBS:
        path = root / job
        if job != "build":
            shutil.copytree(root / "before", path)
        run_job(job, path, tiny_bundle, folder, threading.Event())
        expected[job] = state(path)
    assert [len(expected[job]) for job in JOBS] == [240, 240, 147, 240, 160]
    return root / "before", folder, expected


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_job_goes_on_and_loses_nothing(seed, scene, processes, tiny_bundle, tmp_path):
    before, folder, expected = scene
    chance = random.Random(seed)
    job = JOBS[seed % len(JOBS)]
    path = tmp_path / "gallery"
    if job != "build":
        shutil.copytree(before, path)
    for _ in range(2):
        started = processes.Event()
        process = processes.Process(target=run_job, args=(job, path, tiny_bundle, folder, started))
        process.start()
        assert started.wait(60)
        time.sleep(chance.random() ** 2 * 1.5)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if job != "build":  # searches go on between the kill and the resumption, with the old or the new photos
            served = {i for ids, _ in load_generation(path).blocks() for i in ids.tolist()}
            assert len(served) in {160, len(expected[job])}
    run_job(job, path, tiny_bundle, folder, threading.Event())
    found = state(path)
    assert found.keys() == expected[job].keys()
    for uri, (sha256, vector) in found.items():
        assert sha256 == expected[job][uri][0]
        np.testing.assert_allclose(vector, expected[job][uri][1], atol=1e-5)


def test_readers_see_one_generation_or_the_other(fill):
    path = fill(decaying(300, 16))
    counts, seen, done = {1: 300}, set(), threading.Event()

    def read():
        while not done.is_set():
            searcher = Searcher.open(path, "cpu")
            hits = searcher.search(np.ones((1, 16), np.float32), 1000)[0]
            seen.add((searcher.generation, searcher.count, len({hit.id for hit in hits})))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(2, 14):
        fill(decaying(1, 16, number), start=300 + number, kind="ivf" if number % 4 == 0 else "exact")
        counts[number] = 299 + number
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert all(count == found == counts[generation] for generation, count, found in seen)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kind", ["exact", "ivf", "sq8", "hnsw"])
def test_a_full_disk_leaves_the_old_generation(fill, small_disk, kind):
    path = Path(shutil.copytree(fill(decaying(2000, 16), kind=kind), small_disk / "gallery"))
    before = Searcher.open(path, "cpu").search(decaying(1, 16, 9), 5, recall=1)
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1k"], capture_output=True, check=False)
    with filler.open("rb+") as file:
        file.truncate(filler.stat().st_size - 60_000)  # room to begin, not to end
    with closing(Gallery.open(path, write=True)) as gallery:
        with pytest.raises(GalleryError, match="free some space"), gallery.writing():
            gallery.publish()
        assert read_generation(path).generation == 1
        assert Searcher.open(path, "cpu").search(decaying(1, 16, 9), 5, recall=1) == before
        filler.unlink()
        assert compact(gallery).generation == 2
        assert gallery.problems() == []
