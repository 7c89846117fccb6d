"""The check itself: what it prints, and what it does without."""

import subprocess
import sys

import pytest

from ldm.apps.check import check
from ldm.apps.config_files import config_root

HEAVY = ("pytorch_lightning", "open_clip", "torchmetrics", "torchvision", "transformers", "scipy")
EXPERIMENTS = sorted(path.stem for path in (config_root() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    "experiments",
    [["demo_autoencoder", "sd1_256"], pytest.param(EXPERIMENTS, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_a_check_imports_no_lightning_and_no_towers_of_others(experiments):
    """What is not imported takes no time."""
    script = (
        "import sys\nfrom ldm.apps.main import main\n"
        f"for name in {experiments}:\n"
        "    code = main(['check', f'experiment={name}'])\n"
        f"    heavy = [m for m in {HEAVY} if m in sys.modules]\n"
        "    print('HEAVY', name, heavy, code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = [line for line in done.stdout.splitlines() if line.startswith("HEAVY")]
    assert last == [f"HEAVY {name} [] 0" for name in experiments]


def test_it_says_what_a_run_comes_to(capsys):
    assert check("train", ["experiment=sd1_256"], config_dir=None) == 0
    said = capsys.readouterr().out
    for fact in (
        "UNet of 859,520,964 parameters",
        "2048 = 8 process(es) x 64 x 4 accumulated",
        "237,000 steps, 485,376,000 pictures seen, of 256 px",
        "0.0001 of AdamW, constant after 10,000 steps of warm-up",
        "gpu, bf16-mixed, ddp",
        "each device holds about 43.0 GB",
        "a checkpoint takes about 13.8 GB",
        "before it can run: data.root=DATA holds no latent cache",
    ):
        assert fact in said, fact


@pytest.mark.parametrize("words", [["fd_own"], ["ldm"]])
def test_an_unknown_word_is_no_command(words, capsys):
    from ldm.apps.main import main

    assert main(["check", *words]) == 2
    assert "settings are written key=value" in capsys.readouterr().err
