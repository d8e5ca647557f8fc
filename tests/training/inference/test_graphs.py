from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from training.inference.graphs import RecordedBatches, record_graph

CPU = torch.device("cpu")


class Replayed:
    """What a graph does, on the CPU: it computes from the buffers that it was recorded with, and nothing else."""

    def __init__(self, function, zeros):
        self.host, self.inputs = torch.zeros_like(zeros), zeros
        self._function = function
        self.outputs = function(zeros)
        self.replayed = 0

    def replay(self):
        self.outputs.copy_(self._function(self.inputs))
        self.replayed += 1


def doubled(batch):
    return 2 * batch.sum(dim=(1, 2))[:, None] + torch.arange(3)


@pytest.fixture
def recorded():
    return RecordedBatches(doubled, (4, 5), CPU, (1, 2, 4), Replayed)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_batches_of_any_size(recorded, count):
    batch = torch.rand(count, 4, 5)
    torch.testing.assert_close(recorded(batch), doubled(batch))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, None)])
def test_the_smallest_recording_that_is_large_enough_is_replayed(recorded, count, size):
    recorded(torch.rand(count, 4, 5))
    assert {key: each.replayed for key, each in recorded._recordings.items()} == {
        key: int(key == size) for key in (1, 2, 4)
    }


def test_results_are_not_written_over(recorded):
    batches = [torch.rand(3, 4, 5) for _ in range(4)]
    results = [recorded(batch) for batch in batches]
    for batch, result in zip(batches, results, strict=True):
        torch.testing.assert_close(result, doubled(batch))


def test_many_threads(recorded):
    batches = [torch.rand(1 + number % 5, 4, 5) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for batch, result in zip(batches, pool.map(recorded, batches), strict=True):
            torch.testing.assert_close(result, doubled(batch))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_computes_what_was_recorded():
    device = torch.device("cuda")
    layer = torch.nn.Linear(5, 7).to(device)
    recorded = RecordedBatches(layer, (5,), device, (1, 4), record_graph)
    for count in (1, 3, 4, 6):
        batch = torch.rand(count, 5)
        with torch.inference_mode():
            torch.testing.assert_close(recorded(batch), layer(batch.to(device)))
