import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"
SCRIPTS = sorted(file.stem for file in BENCH.glob("*.py"))


@pytest.fixture
def benchmark(monkeypatch):
    """Loads a benchmark as the interpreter does that is given its file: with its folder first on the path."""
    monkeypatch.syspath_prepend(str(BENCH))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
