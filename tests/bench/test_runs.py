"""Benchmarks measure what they say, on data so small that the figures mean nothing."""

import json
import re
import sys
from contextlib import closing

import faiss
import numpy as np
import pytest
from PIL import Image

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos
from tests.conftest import SHAPES
from training.data.instances import own_photos
from training.data.pairs import load_data

pytestmark = pytest.mark.long


@pytest.fixture
def measure(benchmark, monkeypatch, capsys):
    """Runs a benchmark and returns what it prints."""
    threads = faiss.omp_get_max_threads()

    def measure(name, *arguments):
        module = benchmark(name)
        module.measure(module.parser().parse_args([str(argument) for argument in arguments]))
        return capsys.readouterr().out

    yield measure
    faiss.omp_set_num_threads(threads)


@pytest.fixture
def gallery(tiny_bundle, shapes, tmp_path):
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(shapes / "photo"), "cpu")
        return gallery.path


def table(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_index_kinds_of_random_vectors(measure, tmp_path):
    kinds = ["flat", "exact", "codes", "disk", "pq", "sq8", "rabitq", "ivf", "hnsw"]
    options = ["--dim", 16, "--dimensions", 16, 8, "--queries", 5, "--json", tmp_path / "figures.json"]
    measure("index_kinds", "--counts", 500, "--kinds", *kinds, *options)
    measure("index_kinds", "--counts", 800, "--kinds", "flat", *options, "--plot", tmp_path / "plot.png")
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert {(row["count"], row["kind"]) for row in rows} == {*((500, kind) for kind in kinds), (800, "flat")}
    assert {row["dimensions"] for row in rows if row["exact"]} == {16, 8}
    assert all(row["recall"] == 1 for row in rows if row["exact"])
    assert all(row["recall"] >= 0.99 for row in rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_index_kinds_of_photos(measure, tiny_bundle, shapes, tmp_path):
    file = tmp_path / "embeddings.npz"
    arguments = ["--photos", shapes / "photo", "--sketches", shapes / "sketch", "--parts", 3, "--out", file]
    out = measure("embeddings", "--model", tiny_bundle, *arguments)
    assert out == f"96 photos and parts, 24 sketches in {file}\n"
    stored = np.load(file)
    assert stored["source"].tolist() == np.repeat(np.arange(24), 4).tolist()
    assert len(np.unique(stored["photos"], axis=0)) > 80
    options = ["--embeddings", file, "--dim", 16, "--dimensions", 4, "--kinds", "exact", "codes"]
    assert "top 10, 24 queries, 1 thread(s)" in measure("index_kinds", *options, "--counts", 90)
    assert "200 codes" in measure("index_kinds", *options, "--counts", 200, "--copies", 0.05)
    with pytest.raises(Exception, match="holds 96 photos; choose smaller --counts or --copies"):
        measure("index_kinds", *options, "--counts", 97)


def test_a_rival_that_is_not_installed_is_told_before_anything_is_measured(measure, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(Exception, match=r"^hnswlib is not installed: pip install .*\[bench\]"):
        measure("index_kinds", "--counts", 100, "--kinds", "flat", "hnswlib")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("own", [False, True])
def test_indexing(measure, own, shapes):
    arguments = ["--photos", shapes / "photo", "--rival"] if own else ["--count", 40, "--pixels", 80, "--broken", 0.1]
    out = measure("indexing", "--device", "cpu", *arguments)
    assert out.startswith("24 encoded" if own else "36 encoded")
    assert own or "rejects are exactly the broken pictures: True" in out
    stages = re.search(r"reading ([\d.]+), decoding ([\d.]+), encoding ([\d.]+), writing ([\d.]+)", out)
    assert all(float(cost) > 0 for cost in stages.groups())
    assert own == ("this version against DataLoader and PyTorch: " in out)


def test_indexing_enlarged_photos(measure, shapes):
    out = measure("indexing", "--device", "cpu", "--photos", shapes / "photo", "--megapixels", 1, "--count", 3)
    assert "\n3 encoded" in out
    mean, least = map(float, re.search(r"3 pictures: cosine ([\d.]+) in the mean, ([\d.]+) at least", out).groups())
    assert 0.9 < least <= mean <= 1


def test_operator_derivatives(measure):
    out = measure("operator_derivatives", "--repetitions", 2, "--points", 16)
    assert [line.split("  ")[0].strip() for line in out.splitlines()[1:]] == ["by parts", "direction", "laplacian"]


@pytest.fixture
def strokes(tmp_path):
    """Three drawings of each of three classes, one of them a class of the shapes, one with a space in its name."""
    folder = tmp_path / "strokes"
    folder.mkdir()
    drawing = json.dumps({"drawing": [[[0, 255], [0, 255]], [[0, 255], [255, 0]]]})
    for name in ("circle", "comet", "ice cream"):
        (folder / f"{name}.ndjson").write_text(f"{drawing}\n" * 3)
    return folder


def test_quickdraw(measure, shapes, strokes, tmp_path):
    out = measure(
        "quickdraw", "--strokes", strokes, "--photos", shapes / "photo", "--out", tmp_path / "data", "--limit", 2
    )
    assert out == f"1 classes in {tmp_path / 'data'}\n"
    assert len(list((tmp_path / "data").glob("sketch/circle/*.png"))) == 2
    assert len(list((tmp_path / "data" / "photo" / "circle").iterdir())) == 6


def test_open_data(measure, shapes, strokes, tmp_path):
    photos, data = shapes / "photo" / "circle", tmp_path / "data"
    names = [file.name for file in sorted(photos.iterdir())]
    of_class = ["ice cream", "ice cream", "circle", "", "", "no drawings"]
    imagenet = ["x", "x", "x", "tench, Tinca tinca", "great/white shark", "y"]
    rows = zip(names, imagenet, of_class, strict=True)
    sources = tmp_path / "credits.csv"
    sources.write_text("file,imagenet_class,quickdraw_class\n" + "".join(f'{a},"{b}",{c}\n' for a, b, c in rows))
    arguments = ["--strokes", strokes, "--credits", sources, "--out", data, "--limit", 2]
    out = measure("open_data", "--photos", photos, *arguments)
    assert "2 classes in" in out
    assert out.endswith("3 classes with line drawings of their photos, 0 photos could not be drawn\n")
    found = load_data(data, "names")
    names = {"circle", "ice_cream", "imagenet_great_white_shark", "imagenet_tench", "imagenet_y"}
    assert set(found.classes) == names
    assert len(found.photos) == 6
    assert len(found.sketches) == 2 * 2 + 3
    assert sum(own >= 0 for own in own_photos(found)) == 3  # a line drawing depicts its photo
    sources.write_text("file,author\na.jpg,b\n")
    with pytest.raises(Exception, match="needs the columns file, imagenet_class and quickdraw_class"):
        measure("open_data", "--photos", photos, *arguments)


def test_capacity(measure, tmp_path):
    out = measure("capacity", "--counts", 600, "--dims", 32, "--kinds", "codes", "--queries", 3, "--scratch", tmp_path)
    scaled, measured, switched = (row for row in table(out.partition("For a million")[2]) if row[0] == "codes")
    assert scaled[:3] == measured[:3] == switched[:3] == ["codes", "32", "600"]
    vectors = 1e6 * 32 * 4 / 1e9
    assert vectors < float(scaled[3]) < 10 * vectors
    assert vectors < float(scaled[4]) < 10 * vectors
    assert list(tmp_path.iterdir()) == []


def test_retrieval(measure, benchmark, monkeypatch, shapes, tmp_path):
    methods = benchmark("retrieval").EVERY
    monkeypatch.setitem(methods, "closed form", methods["closed form"] | {"image_size": 32})
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"seen": list(SHAPES)[:2], "unseen": list(SHAPES)[2:]}))
    options = ["--splits", split, "--seeds", 0, "--methods", "raw cosine", "--cache", tmp_path / "cache"]
    out = measure("retrieval", "--data", shapes, "--out", tmp_path / "runs", *options)
    assert "raw cosine, seed 0: mAP@all" in out
    rows = table((tmp_path / "runs" / "table.md").read_text())
    assert [row[0] for row in rows] == ["method", "---", "raw cosine", "closed form"]
    figures = rows[2][2:4]  # one sketch by itself, and with the photos' neighbours
    assert rows[0][2:4] == ["mAP@all", "mAP@all, with the gallery's neighbours"]
    assert figures[0] != figures[1]


def test_classes(measure, shapes, tmp_path):
    wider = tmp_path / "wider"
    for kind in ("sketch", "photo"):
        for name, source in (("Circle", "circle"), ("blob", "square"), ("smear", "line")):
            (wider / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (wider / kind / name).symlink_to(shapes / kind / source)
    split = tmp_path / "unseen.txt"
    split.write_text("triangle\n")
    options = ["--split", split, "--image-size", 32, "--draws", 2, "--cache", tmp_path / "cache"]
    out = measure("classes", "--data", shapes, "--counts", 2, "--wider", wider, *options)
    rows = table(out)[2:]
    assert [row[0] for row in rows] == ["2", "2 + 2"]  # the circle is one of the first data set's classes
    assert all(0 < float(cell) <= 1 for row in rows for cell in row[1:3])
    assert all(row[3:] == ["-", "-"] for row in rows)  # no sketch is known to depict a photo
    with pytest.raises(Exception, match="2 classes are left to train on; choose smaller --counts"):
        measure("classes", "--data", shapes, "--counts", 3, *options)


@pytest.mark.parametrize(
    ("name", "kept"), [("hot_air balloon", False), ("motorbike", False), ("Mug", False), ("bus", True), ("bird", False)]
)
def test_a_class_is_the_same_under_every_name(benchmark, name, kept):
    benchmark("classes")
    from measurements.synonyms import other_classes

    known = ["hot-air_balloon", "motorcycle", "cup", "songbird", "car_(sedan)"]
    assert other_classes([name, "bus stop"], known) == sorted([name] * kept + ["bus stop"])


def test_service_load(measure, gallery, shapes):
    arguments = ["--gallery", gallery, "--sketches", shapes / "sketch", "--clients", 2, "--seconds", 3]
    report = json.loads(measure("service_load", *arguments, "--phases", "load", "swap"))
    assert set(report["load"]["one_client"]["statuses"]) == {"200"}
    assert report["load"]["rounds"][0]["bare"]["per_second"] > 0
    changes = report["swap"]["changes"]
    assert changes["add 201"] == changes["found at once"] == changes["listed at once"]


def test_colours_of_rendered_pictures_and_photos(measure, tmp_path):
    folder = tmp_path / "photos"
    for kind, colour in (("strawberry", "red"), ("banana", "yellow")):
        (folder / kind).mkdir(parents=True)
        Image.new("RGB", (60, 40), colour).save(folder / kind / "1.png")
    out = measure("colours", "--pictures", 1, "--photos", folder, "--sheet", tmp_path / "sheet.png")
    rows = {tuple(row[:2]): row[2:] for row in table(out)}
    assert rows["strawberry", "red"] == ["1.00", "0.00", "1.0"]
    assert next(row for row in table(out) if row[0] == "red")[1:] == ["1.00"] * 8 + ["0.000"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:Local mode performs exact")  # of Qdrant's client, whatever it is asked for
def test_databases(measure, tiny_bundle):
    pytest.importorskip("qdrant_client")
    options = ["--databases", "qdrant", "--count", 40, "--queries", 2, "--dimensions", 16, 4, "--rounds", 1]
    rows = table(measure("databases", "--model", tiny_bundle, *options))[2:]
    assert [row[:2] for row in rows] == [[name, d] for d in ("16", "4") for name in ("svdraw", "qdrant")]
    assert {row[2] for row in rows} == {"100.0%"}
