import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.service.conftest import wait_until
from training.inference.batching import MicroBatcher


@pytest.fixture
def make():
    batchers = []

    def make(encode, max_batch=8):
        batchers.append(MicroBatcher(encode, max_batch))
        return batchers[-1]

    yield make
    for batcher in batchers:
        batcher.close()


def embed(batcher, number):
    return batcher.embed(torch.tensor([float(number)]))[0]


def doubled(images):
    return np.stack([image.numpy() * 2 for image in images])


def test_what_gathers_while_a_batch_is_encoded_is_the_next_one(make):
    begun, go_on, sizes = threading.Event(), threading.Event(), []

    def encode(images):
        begun.set()
        assert go_on.wait(60)
        sizes.append(len(images))
        return doubled(images)

    batcher = make(encode, max_batch=4)
    with ThreadPoolExecutor(9) as pool:
        outcomes = [pool.submit(embed, batcher, 0)]
        assert begun.wait(60)
        outcomes += [pool.submit(embed, batcher, number) for number in range(1, 9)]
        wait_until(lambda: batcher._queue.qsize() == 8)
        go_on.set()
        assert [outcome.result(60) for outcome in outcomes] == [2.0 * number for number in range(9)]
    assert sizes == [1, 4, 4]


@pytest.mark.parametrize("wrong", ["raises", "too few", "too many"])
def test_a_failure_reaches_every_caller_and_the_next_batch_works(make, wrong):
    begun, go_on, sizes = threading.Event(), threading.Event(), []

    def encode(images):
        sizes.append(len(images))
        if len(sizes) == 1:
            begun.set()
            assert go_on.wait(60)
        if len(sizes) == 2 and wrong == "raises":
            raise ValueError("out of memory")
        if len(sizes) == 2:
            return doubled(images)[:1] if wrong == "too few" else np.zeros((9, 1))
        return doubled(images)

    batcher = make(encode)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(embed, batcher, 1)
        assert begun.wait(60)
        others = [pool.submit(embed, batcher, number) for number in range(3)]
        wait_until(lambda: batcher._queue.qsize() == 3)
        go_on.set()
        assert first.result(60) == 2
        for other in others:
            with pytest.raises(ValueError, match="out of memory" if wrong == "raises" else "zip"):
                other.result(60)
        assert pool.submit(embed, batcher, 4).result(60) == 8
    assert sizes == [1, 3, 1]


def test_it_encodes_what_waits_before_it_closes_and_takes_no_more(make):
    begun, go_on = threading.Event(), threading.Event()

    def encode(images):
        begun.set()
        assert go_on.wait(60)
        return doubled(images)

    batcher = make(encode)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(embed, batcher, 1)]
        assert begun.wait(60)
        waiting.append(pool.submit(embed, batcher, 2))
        wait_until(lambda: batcher._queue.qsize() == 1)
        closing = pool.submit(batcher.close)
        wait_until(lambda: batcher._queue.qsize() == 2)
        with pytest.raises(RuntimeError, match="closed"):
            embed(batcher, 3)
        go_on.set()
        assert [outcome.result(60) for outcome in waiting] == [2, 4]
        closing.result(60)
    batcher.close()
