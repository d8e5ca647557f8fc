import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import DataError
from training.evaluation.embeddings import read_searches

GOOD = {
    "sketches": np.eye(3, 2, dtype=np.float32),
    "photos": np.array([[1, 0], [0, 1], [0.5, 2]], np.float32),
    "sketch_labels": np.array(["owl", "fox", "bat"]),
    "photo_labels": np.array(["owl", "fox", "fox"]),
}
NUMBERS = {"sketch_labels": np.array([4, 5, 9]), "photo_labels": np.array([4, 5, 5])}


@pytest.fixture
def written(tmp_path):
    def write(name="vectors.npz", **changes):
        arrays = {key: value for key, value in (GOOD | changes).items() if value is not None}
        if name.endswith(".npz"):
            np.savez(tmp_path / name, **arrays)
        else:
            save_file(arrays, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize(("name", "labels"), [("v.npz", {}), ("v.npz", NUMBERS), ("v.safetensors", NUMBERS)])
def test_sketches_and_labels_of_either_format(written, name, labels, caplog):
    searches = read_searches(written(name, instances=np.array([0, 2, -1]), **labels))
    assert searches.sketches.shape == (2, 2)  # nothing is to be found for the bat
    np.testing.assert_array_equal(searches.relevance.toarray(), [[1, 0, 0], [0, 1, 1]])
    assert list(searches.classes) == (["4", "5"] if labels else ["owl", "fox"])
    assert searches.own.tolist() == [0, 2]
    assert "1 of 3 sketches are left out: no photo has their label" in caplog.text


def test_instances_need_not_be_known(written):
    assert read_searches(written()).own.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": None}, "has no array 'photos'; it needs sketches, photos, sketch_labels, photo_labels"),
        ({"photos": np.zeros((3, 5))}, "sketches have 2 dimensions and photos 5"),
        ({"photos": np.zeros(3)}, "photos must be (n, dim) numbers, not (3,) of float64"),
        ({"photos": np.zeros((0, 2))}, "photos must be (n, dim) numbers, not (0, 2)"),
        ({"sketches": np.full((3, 2), 1e39)}, "sketches holds numbers that are not finite, in 32 bits"),
        ({"sketch_labels": np.array(["owl"])}, "sketch_labels must be (3,) integers or texts, not (1,)"),
        ({"sketch_labels": np.zeros(3)}, "sketch_labels must be (3,) integers or texts, not (3,) of float64"),
        ({"sketch_labels": np.arange(3)}, "labels must be numbers on both sides, or texts on both"),
        ({"photo_labels": np.array(["a", "b", "c"])}, "no photo has the label of any sketch"),
        ({"instances": np.array([0, 1, 3])}, "instances must be positions of photos, -1 to 2"),
        ({"instances": np.array([0.5, 1, 2])}, "instances must be (3,) integers, not (3,) of float64"),
        ({"sketch_labels": np.array([{}, 1, 2], object)}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(written, changes, message):
    with pytest.raises(DataError) as caught, np.errstate(over="ignore"):
        read_searches(written(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "v.csv"])
@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 and no more", b"\x93NUMPY"])
def test_files_that_are_none(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"does not exist|cannot be read: .|is neither \.npz nor \.safetensors"):
        read_searches(tmp_path / name)


def test_the_command_prints_and_writes_both_kinds(written, tmp_path, capsys):
    command = ["evaluate", "--embeddings", str(written()), "--json", str(tmp_path / "figures.json")]
    assert run_command(TRAINING, [*command, "--plot", str(tmp_path / "curve.png")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["map_all"] == figures["with_neighbours"]["map_all"] == 1
    assert "spectrum" not in figures
    output = capsys.readouterr().out
    assert "sketch by sketch  with the gallery's neighbours" in output
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --model and --data, or --embeddings in place of both"),
        (["--model", "x"], "give --model and --data, or --embeddings in place of both"),
        (["--embeddings", "x", "--model", "y", "--data", "z"], "give --model and --data, or --embeddings"),
        (["--embeddings", "x", "--split", "y"], "--embeddings takes no --model, --data, --split, --views or --gallery"),
    ],
)
def test_what_is_measured_is_named_once(options, message, capsys):
    assert run_command(TRAINING, ["evaluate", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
