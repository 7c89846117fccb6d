"""Share and perplexity of codes in use, against their definitions."""

import math

import pytest
import torch

from ldm.autoencoders.regularizers import KL, VQ
from ldm.tasks.code_usage import CodeUsage, usage


def test_perplexity_is_the_number_of_codes_that_carry_as_much() -> None:
    found = usage(torch.tensor([5.0, 5.0, 5.0, 5.0]))
    assert float(found["codebook_usage"]) == 1.0
    assert float(found["codebook_perplexity"]) == pytest.approx(4.0)
    found = usage(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    assert float(found["codebook_usage"]) == 0.25 and float(found["codebook_perplexity"]) == 1.0
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    found = usage(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    assert float(found["codebook_usage"]) == 0.5
    assert float(found["codebook_perplexity"]) == pytest.approx(math.exp(entropy))


def test_micro_batches_add_up_and_every_step_begins_from_zero() -> None:
    torch.manual_seed(0)
    vq = VQ(num_codes=6, dim=2, beta=0.25, loss_weight=1.0, restart_rate=0.0)
    torch.nn.init.normal_(vq.embedding.weight)
    code = torch.randn(4, 2, 3, 3)
    counted = CodeUsage(vq)
    for part in code.split(1):
        counted.see(part)
    counted.see(code[:0])
    totals = counted.totals()
    assert torch.equal(totals, vq.counts(code))  # type: ignore[arg-type]
    assert float(totals.sum()) == 4 * 9  # type: ignore[union-attr]
    assert counted.totals() is None
    counted.see(code[:1])
    assert float(counted.totals().sum()) == 9  # type: ignore[union-attr]


def test_a_regularizer_without_a_codebook_counts_nothing() -> None:
    counted = CodeUsage(KL())
    counted.see(torch.randn(2, 4, 3, 3))
    assert counted.totals() is None
