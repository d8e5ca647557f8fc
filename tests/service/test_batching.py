import threading

import numpy as np
import pytest
import torch

from service.batching import MicroBatcher
from service.errors import RequestProblem


def test_concurrent_inputs_share_batches_and_keep_their_results():
    gate, sizes = threading.Event(), []

    def encode(images):
        gate.wait(10)
        return np.stack([image.numpy() * 2 for image in images])

    batcher = MicroBatcher(encode, max_batch=4, max_waiting=20, on_batch=lambda size, seconds: sizes.append(size))
    futures = [batcher.submit(torch.tensor([float(number)])) for number in range(9)]
    gate.set()
    assert [future.result(10)[0] for future in futures] == [2.0 * number for number in range(9)]
    batcher.close()
    assert sum(sizes) == 9
    assert max(sizes) == 4


def test_a_full_queue_is_a_503():
    gate = threading.Event()

    def encode(images):
        gate.wait(10)
        return np.zeros((len(images), 1), np.float32)

    batcher = MicroBatcher(encode, max_batch=1, max_waiting=2)
    accepted = []

    def flood():
        for _ in range(10):
            accepted.append(batcher.submit(torch.zeros(1)))

    with pytest.raises(RequestProblem) as caught:
        flood()
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"]
    gate.set()
    for future in accepted:
        future.result(10)
    batcher.close()


def test_a_failure_reaches_every_caller_and_the_next_batch_works():
    calls = []

    def encode(images):
        calls.append(len(images))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return np.ones((len(images), 1), np.float32)

    batcher = MicroBatcher(encode, max_batch=8, max_waiting=8)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(torch.zeros(1)).result(10)
    assert batcher.submit(torch.zeros(1)).result(10) == 1
    batcher.close()


def test_cancelled_inputs_are_skipped():
    gate, seen = threading.Event(), []

    def encode(images):
        gate.wait(10)
        seen.append(len(images))
        return np.zeros((len(images), 1), np.float32)

    batcher = MicroBatcher(encode, max_batch=1, max_waiting=8)
    first, second = batcher.submit(torch.zeros(1)), batcher.submit(torch.zeros(1))
    assert second.cancel()
    gate.set()
    first.result(10)
    batcher.close()
    assert seen == [1]
