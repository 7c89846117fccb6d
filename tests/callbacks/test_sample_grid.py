"""Sample pictures are the same however many ranks draw them."""

from types import SimpleNamespace

import torch
from PIL import Image
from torch import nn

from ldm.callbacks import sample_grid
from ldm.callbacks.patience import Patience
from ldm.callbacks.sample_grid import SampleGrid
from ldm.tasks.trained import Trained

ROWS = 10  # two blocks of four, one of two


def task():
    network = nn.Linear(1, 1, bias=False)
    part = Trained(
        network,
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        learning_rate=lambda step: 1.0,
        max_gradient_norm=1.0,
        ema_decay=0.9,
    )
    part.ema.shadow["weight"].fill_(0.05)
    return SimpleNamespace(
        product="denoiser", trained={"denoiser": part}, step=7, network=network,
        eval=lambda: None, train=lambda: None,
    )  # fmt: skip


def test_ranks_draw_blocks_in_turn_with_the_average(make_trainer, monkeypatch, tmp_path):
    def grid(name, ranks):
        seen, drawn, module = [], [], task()

        def draw(rows):
            seen.append(list(rows))
            shade = float(module.network.weight) * torch.tensor(rows, dtype=torch.float32)
            return shade.view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

        for rank in reversed(range(ranks)):  # rank 0 last: it has what all have drawn
            patience = Patience(collective_timeout_seconds=1.0)
            patience.gather = lambda mine: drawn.append(dict(mine)) or drawn  # type: ignore
            mine = [min(first + rank, 2) for first in range(0, 3, ranks)]
            monkeypatch.setattr(sample_grid, "turns", lambda count, mine=mine: mine)
            trainer = make_trainer()
            monkeypatch.setattr(type(trainer), "is_global_zero", rank == 0)
            SampleGrid(draw, tmp_path / name, rows=ROWS, columns=5, patience=patience)(
                trainer, module
            )
        assert {tuple(rows) for rows in seen} == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)}
        return Image.open(tmp_path / name / "step_000000007.png")

    alone = grid("one", 1)
    assert alone.size == (5 * 6 - 2, 2 * 6 - 2)
    assert alone.getpixel((0, 0)) != alone.getpixel((6, 0))  # row 0, row 1: drawn with the average
    for ranks in (2, 3, 5):
        assert grid(str(ranks), ranks).tobytes() == alone.tobytes()
