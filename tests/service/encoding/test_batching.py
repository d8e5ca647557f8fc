import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from service.encoding.batching import MicroBatcher


def test_concurrent_inputs_share_batches_and_keep_their_results():
    gate, sizes = threading.Event(), []

    def encode(images):
        gate.wait(10)
        sizes.append(len(images))
        return np.stack([image.numpy() * 2 for image in images])

    batcher = MicroBatcher(encode, max_batch=4)
    with ThreadPoolExecutor(9) as pool:
        outcomes = pool.map(lambda number: batcher.embed(torch.tensor([float(number)])), range(9))
        gate.set()
        assert [outcome[0] for outcome in outcomes] == [2.0 * number for number in range(9)]
    batcher.close()
    assert sum(sizes) == 9
    assert max(sizes) <= 4
    assert len(sizes) < 9


def test_a_failure_reaches_every_caller_and_the_next_batch_works():
    calls = []

    def encode(images):
        calls.append(len(images))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return np.ones((len(images), 1), np.float32)

    batcher = MicroBatcher(encode, max_batch=8)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.embed(torch.zeros(1))
    assert batcher.embed(torch.zeros(1)) == 1
    batcher.close()
