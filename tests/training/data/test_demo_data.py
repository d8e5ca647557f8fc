import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from training.base.errors import DataError
from training.data.demo_data import render_demo_data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "data"
    summary = render_demo_data(out, limit=12, size=32, drawings=2)
    assert (summary.classes, summary.unseen, summary.sketches, summary.rendered) == (12, 3, 24, True)
    assert summary.split == out / "split.json"
    return out


def test_layout(rendered: Path) -> None:
    classes = sorted(folder.name for folder in (rendered / "sketch").iterdir())
    assert len(classes) == 12
    assert classes == sorted(folder.name for folder in (rendered / "photo").iterdir())
    for name in classes:
        assert sorted(f.name for f in (rendered / "sketch" / name).iterdir()) == ["0.png", "1.png"]
        assert sorted(f.name for f in (rendered / "photo" / name).iterdir()) == ["0.png"]
        with Image.open(rendered / "photo" / name / "0.png") as photo:
            assert photo.size == (32, 32)
    assert "CC BY-SA 4.0" in (rendered / "ATTRIBUTION.txt").read_text()


def test_split_covers_every_class_once(rendered: Path) -> None:
    split = json.loads((rendered / "split.json").read_text())
    classes = sorted(folder.name for folder in (rendered / "photo").iterdir())
    assert sorted(split["seen"] + split["unseen"]) == classes
    assert len(split["unseen"]) == 3


def test_a_finished_render_is_left_alone(rendered: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in rendered.rglob("*")}
    assert not render_demo_data(rendered, limit=12, size=32, drawings=2).rendered
    assert {file: file.stat().st_mtime_ns for file in rendered.rglob("*")} == before


def test_same_arguments_same_bytes_and_another_seed_differs(rendered: Path, tmp_path: Path) -> None:
    render_demo_data(tmp_path / "again", limit=12, size=32, drawings=2)
    assert contents(tmp_path / "again") == contents(rendered)
    render_demo_data(tmp_path / "other", limit=12, size=32, drawings=2, seed=1)
    assert contents(tmp_path / "other") != contents(rendered)


DIES = """
import itertools, os, pathlib, signal, sys
from PIL import Image
from training.data.demo_data import render_demo_data

save, numbers = Image.Image.save, itertools.count()

def save_some(*given, **options):
    save(*given, **options)
    if next(numbers) == 40:
        os.kill(os.getpid(), signal.SIGKILL)

Image.Image.save = save_some
render_demo_data(pathlib.Path(sys.argv[1]), limit=200, size=32, drawings=2)
"""


def test_a_killed_render_goes_on_to_the_same_result(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert subprocess.run([sys.executable, "-c", DIES, out], check=False).returncode == -signal.SIGKILL
    done = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    assert 0 < len(done) < 600

    assert render_demo_data(out, limit=200, size=32, drawings=2).rendered
    assert {file: file.stat().st_mtime_ns for file in done} == done
    render_demo_data(tmp_path / "whole", limit=200, size=32, drawings=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_other_settings_and_other_folders_are_refused_unharmed(rendered: Path, tmp_path: Path) -> None:
    before = contents(rendered)
    with pytest.raises(DataError, match="other settings"):
        render_demo_data(rendered, limit=12, size=32, drawings=3)
    assert contents(rendered) == before
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        render_demo_data(tmp_path)
    assert contents(tmp_path) == {"diary.txt": b"mine"}


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('["half')
    with pytest.raises(DataError, match="delete it"):
        render_demo_data(tmp_path, limit=4, size=32)


@pytest.mark.parametrize("name", ["limit", "size", "drawings", "unseen"])
def test_numbers_must_be_positive(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} must be at least 1, not 0"):
        render_demo_data(tmp_path, **{name: 0})
