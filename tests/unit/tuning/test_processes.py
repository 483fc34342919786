import torch
from braintuning.tuning import processes


def test_tensors_of_one_dtype_are_added_up_in_one_exchange(monkeypatch):
    exchanged = []

    def all_reduce(tensor):
        exchanged.append((tensor.dtype, tensor.numel()))
        tensor.mul_(2)  # two processes that hold the same

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes.distributed, "all_reduce", all_reduce)
    tensors = [
        torch.tensor(3.0),
        torch.arange(6.0).view(2, 3).T,
        torch.ones(2, dtype=torch.bfloat16),
        torch.arange(4.0)[::2],
    ]
    expected = [2 * tensor for tensor in tensors]
    processes.add_up(tensors)
    for found, total in zip(tensors, expected, strict=True):
        assert torch.equal(found, total) and found.dtype == total.dtype
    assert exchanged == [(torch.float32, 1 + 6 + 2), (torch.bfloat16, 2)]


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(processes.distributed, "all_reduce", None)
    tensor = torch.ones(2)
    processes.add_up([tensor])
    assert torch.equal(tensor, torch.ones(2))
