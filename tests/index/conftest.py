import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from index.jobs import index_photos
from index.sources import list_photos
from training.model.gallery_order import GalleryOrder


@pytest.fixture
def build(tiny_bundle, tmp_path):
    """Builds (or brings up to date) a gallery of a folder and returns its path and the job's report."""

    def build(photos: Path, name: str = "gallery"):
        gallery = Gallery.create(tmp_path / name, tiny_bundle)
        try:
            return gallery.path, index_photos(gallery, list_photos(photos), "cpu")
        finally:
            gallery.close()

    return build


def decaying(count, dim, seed=0):
    """Random vectors whose coordinates shrink like those of a trained model."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, dim)) / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)


def turned(dim, seed=0):
    """Coordinates of a gallery that are not the model's."""
    random = np.random.default_rng(seed)
    rotation, scale = np.linalg.qr(random.normal(size=(dim, dim)))[0], random.uniform(0.5, 2, size=(dim, 1))
    return GalleryOrder(rotation * scale, rotation / scale, random.normal(size=dim), np.ones(dim))


def as_earlier(file, *, has_revisions=True):
    """Makes a catalogue one of an earlier version, whose vectors were among the facts of the photos."""
    with closing(Catalogue(file)) as catalogue:
        vectors = [
            (vector.tobytes(), identifier)
            for block in catalogue.blocks(int(catalogue.fact("dim")))
            for identifier, vector in zip(block.ids.tolist(), block.vectors, strict=True)
        ]
    revision = "" if has_revisions else "DROP INDEX photos_by_revision; ALTER TABLE photos DROP COLUMN revision;"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(f"""
            ALTER TABLE photos ADD COLUMN vector BLOB NOT NULL DEFAULT x'';
            DROP TABLE vectors; DROP TABLE removed; DROP TABLE postings; DELETE FROM facts WHERE name = 'removed_since';
            {revision} PRAGMA user_version = 0;
        """)
        connection.executemany("UPDATE photos SET vector = ? WHERE id = ?", vectors)
        connection.commit()
        connection.execute("VACUUM")


@pytest.fixture
def fill(tiny_bundle, tmp_path):
    """Puts 16-dimensional vectors under made-up URIs into a gallery, publishes it and returns its path.

    The vectors take in no neighbours, so that what is served can be computed from the catalogue.
    """

    def fill(vectors, *, start=0, name="filled", kind=None, target=None, contents=None, metadata=None, neighbours=0):
        gallery = Gallery.create(tmp_path / name, tiny_bundle)
        photos = []
        for number, vector in enumerate(vectors, start=start):
            content = hashlib.sha256(str(contents[number] if contents else number).encode()).hexdigest()
            facts = metadata(number) if metadata else {}
            photos.append(NewPhoto(f"/photos/{number}.png", content, 1, 1, 8, 8, f"class {number % 7}", facts, vector))
        try:
            gallery.configure(kind, target, neighbours)
            with gallery.writing():
                gallery.catalogue.add(photos)
            gallery.publish_changes()
            return gallery.path
        finally:
            gallery.close()

    return fill


@pytest.fixture
def plans(monkeypatch):
    """Query plans of what connections that are opened from now on are asked."""
    connect, found = sqlite3.connect, []

    def traced(path, **options):
        connection, other = connect(path, **options), connect(path, **options)

        def explain(statement):
            if statement.startswith("SELECT"):
                found.extend(row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}"))

        connection.set_trace_callback(explain)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return found
