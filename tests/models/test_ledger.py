"""Parameters and multiply-adds, block by block."""

import pytest

from models import MODELS, build_model
from models.__main__ import main as print_ledger
from models.ledger import measure, total
from tests.helpers import count_parameters

BLOCKS = {
    "v1": ("backbone", "backbone_attention", "neck", "neck_attention", "context", "mix", "heads"),
    "v2": ("backbone", "neck", "context", "mix", "heads"),
}


@pytest.mark.parametrize("name", MODELS)
def test_ledger_counts_every_parameter_once(name):
    model = build_model(name).eval()
    costs = measure(model, 64, 64)
    assert tuple(costs) == BLOCKS[name]
    assert total(costs).parameters == count_parameters(model)


def test_ledger_multiply_adds_by_hand():
    costs = measure(build_model("v1").eval(), 64, 96)
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert costs["heads"].multiply_adds == cells * 64 * 32
    assert costs["mix"].multiply_adds == cells * (64 * 32 + 32 * 9 + 32 * 64)
    taps = 9 * (64 + 64 + 16 + 16 + 16)
    weights = 9 * (64 * 32 + 64 * 16 + 3 * 16 * 16)
    assert costs["context"].multiply_adds == cells * (taps * 27 + weights + 5 * taps)


def test_ledger_is_printed_for_both_models(capsys):
    print_ledger([])
    printed = capsys.readouterr().out
    assert "592,371" in printed
    assert f"{count_parameters(build_model('v2')):,}" in printed
    assert all(block.replace("_", " ") in printed for block in BLOCKS["v1"])
