import pytest

from training.model.bundle import copy_bundle, set_calibration
from training.model.calibration import Calibration, Coefficients


@pytest.fixture
def arguments(tiny_bundle, shapes, tmp_path):
    copy_bundle(tiny_bundle, tmp_path / "model")
    (tmp_path / "unseen.txt").write_text("circle\nline\n")
    return [
        *("--model", str(tmp_path / "model"), "--data", str(shapes), "--split", str(tmp_path / "unseen.txt")),
        *("--cache", str(tmp_path), "--plot", str(tmp_path / "plot.png")),
    ]


def test_the_error_of_certainty_is_the_share_that_is_wrong(benchmark, arguments, tmp_path, capsys):
    certain = Coefficients(dimensions=12, slope=0, size=0, offset=50)
    set_calibration(tmp_path / "model", Calibration(coefficients=(certain,), classes=10, queries=10))
    script = benchmark("calibration")
    script.measure(script.parser().parse_args(arguments))
    [row] = [line.split("|") for line in capsys.readouterr().out.splitlines() if "all sizes" in line]
    assert 0 < float(row[3]) < 1
    assert (float(row[5]), float(row[6])) == (1, 1)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_without_calibration_is_refused(benchmark, arguments):
    script = benchmark("calibration")
    with pytest.raises(Exception, match="svdraw calibrate"):
        script.measure(script.parser().parse_args(arguments))
