"""Evaluation mode for a while."""

import pytest
from torch import nn

from tupelo.models.modes import evaluating


def test_every_module_has_its_own_mode_again_also_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout(), nn.Linear(1, 1))
    model[1].eval()
    modes = [module.training for module in model.modules()]

    def fail():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in model.modules()] == modes == [True, True, False, True]
