"""Devices as people name them."""

import pytest
import torch

from utils import distributed
from utils.errors import UserError


def test_a_script_of_one_process_takes_one_device():
    assert distributed.choose_device("cpu", cpu=False) == torch.device("cpu")
    with pytest.raises(UserError, match="--gpu cpu,cpu.*one device"):
        distributed.choose_device("cpu,cpu", cpu=False)
