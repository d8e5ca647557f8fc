import torch

from training.inference.plan import make_plan, torch_threads


def test_a_cpu_encodes_one_by_one_and_a_gpu_in_batches(monkeypatch):
    monkeypatch.setattr("training.inference.plan.processors", lambda: 8)
    cpu, gpu = make_plan(torch.device("cpu")), make_plan(torch.device("cuda"))
    assert (cpu.at_once, cpu.max_batch, cpu.cores) == (8, 1, 8)
    assert (gpu.max_batch, gpu.cores) == (16, 8)
    assert gpu.at_once > 2 * gpu.max_batch


def test_threads_are_as_before_after_the_block():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
