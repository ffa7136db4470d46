import torch

from tupelo import compiled
from tupelo.losses.triplet_sums import triplet_sums


def test_compiles_where_nothing_can_be_cached(monkeypatch):
    plain = compiled.njit

    def read_only(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**options)

    monkeypatch.setattr(compiled, "njit", read_only)
    assert compiled.compiled()(lambda x: x + 1)(1) == 2


def test_compiled_loops_leave_the_threads_of_pytorch_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        distance = torch.rand(4, 6)
        mask = distance > 0.5
        triplet_sums(distance, mask, ~mask, 0.2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
