"""One wandb run for one run of ours, over our own steps; without account and network too."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.loggers.wandb import Wandb
from tests.callbacks.loggers.fake_wandb import FakeWandb

SETTINGS = {"project": "ldm", "entity": None, "group": "sweep", "name": None, "tags": ["a"],
            "notes": None, "mode": "auto", "id": None}  # fmt: skip


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    return fake


def opened(directory, held=None, rewound_from=None, state=None, **more):
    log = Wandb(**SETTINGS | more)
    if state:
        log.load_state_dict(state)
    return log, log.open(Run(directory, {"lr": 1e-3}), held, rewound_from)


def test_settings_and_facts_reach_wandb(wandb, tmp_path):
    opened(tmp_path / "runs" / "mine")
    given = wandb.runs[0].given
    assert given["name"] == "mine" and given["project"] == "ldm" and given["group"] == "sweep"
    assert given["config"] == {"lr": 1e-3} and given["dir"] == str(tmp_path / "runs" / "mine")
    opened(tmp_path, name="other")
    assert wandb.runs[1].given["name"] == "other"


def test_the_axis_is_our_own_step(wandb, tmp_path):
    log, _ = opened(tmp_path)
    log.write([{"step": 40, "images_seen": 320, "loss": 1.0}, {"step": 20, "val/fid": 2.0}])
    log.show(Picture("samples", 20, tmp_path / "x.png", ["a circle", "a square"]))
    run = wandb.runs[0]
    assert run.metrics == {"step": None, "*": "step"}
    assert run.history[:2] == [
        {"step": 40, "images_seen": 320, "loss": 1.0}, {"step": 20, "val/fid": 2.0},
    ]  # fmt: skip
    image = ("image", str(tmp_path / "x.png"), "a circle\na square")
    assert run.history[2] == {"step": 20, "samples": image}


def test_the_id_stays(wandb, tmp_path):
    first, _ = opened(tmp_path)
    state = first.state_dict()
    assert wandb.runs[0].given["id"] == state["id"] and len(state["id"]) == 8
    again, _ = opened(tmp_path, state=state)
    assert again.state_dict() == state
    other, _ = opened(tmp_path)
    assert other.state_dict() != state
    asked, _ = opened(tmp_path, state=state, id="mine")
    assert asked.state_dict() == {"id": "mine"}
    assert all(run.given["resume"] == "allow" for run in wandb.runs)
    assert Wandb(**SETTINGS).state_dict() == {}  # before it is open


def test_a_rewind_is_marked(wandb, tmp_path):
    opened(tmp_path, held=100, rewound_from=160)
    opened(tmp_path, held=100)
    assert wandb.runs[0].history == [{"step": 100, "rewound_from_step": 160}]
    assert wandb.runs[1].history == []


@pytest.mark.parametrize(
    "mode, variable, logged_in, expected, said",
    [
        ("auto", None, False, "offline", "nobody is logged in, so it writes offline to"),
        ("auto", None, True, "online", "https://wandb.example/run"),
        ("auto", "offline", True, "offline", "wandb: it writes offline to"),
        ("auto", "disabled", True, "disabled", "disabled by WANDB_MODE"),
        ("offline", "online", True, "offline", "upload it later with: wandb sync"),
        ("online", "offline", True, "online", "https://wandb.example/run"),
    ],
)
def test_modes(wandb, tmp_path, monkeypatch, mode, variable, logged_in, expected, said):
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    wandb.logged_in = logged_in
    log, line = opened(tmp_path, mode=mode)
    assert wandb.runs[0].given["mode"] == expected and said in line
    log.close(failed=False)
    assert wandb.runs[0].exit_code == 0


def test_a_failed_run_is_one_there_too(wandb, tmp_path):
    log, _ = opened(tmp_path)
    log.close(failed=True)
    assert wandb.runs[0].exit_code == 1


def test_what_cannot_work_is_said_before_the_first_step(wandb, monkeypatch):
    Wandb(**SETTINGS).require()
    with pytest.raises(ValueError, match="wandb login"):
        Wandb(**SETTINGS | {"mode": "online"}).require()
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(ValueError, match="wandb login"):  # which would ask on the terminal
        Wandb(**SETTINGS).require()
    Wandb(**SETTINGS | {"mode": "offline"}).require()
    monkeypatch.delenv("WANDB_MODE")
    with monkeypatch.context() as patch:
        patch.setattr(wandb, "login", lambda **given: wandb.act("login"))
        wandb.fails = {"login"}
        with pytest.raises(ValueError, match="wandb: no network for login"):
            Wandb(**SETTINGS).require()
    with pytest.raises(ValueError, match="auto, online, offline"):
        Wandb(**SETTINGS | {"mode": "onlin"})
    monkeypatch.setattr(
        "ldm.callbacks.loggers.wandb.find_spec", lambda name: importlib.util.find_spec("no_")
    )
    with pytest.raises(ValueError, match="pip install wandb"):
        Wandb(**SETTINGS).require()


OFFLINE = """
import sys
from pathlib import Path
from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.loggers.wandb import Wandb
assert not {"wandb", "torch", "pytorch_lightning"} & set(sys.modules), "imported too early"
run = Run(Path(sys.argv[1]), {"lr": 1e-3, "backbone": {"width": 8}})
log = Wandb(project="ldm", entity=None, group=None, name=None, tags=[], notes=None, mode="auto",
            id=None)
for held in (None, 40):
    print(log.open(run, held, None))
    log.write([{"step": step, "loss": 1.0 / step} for step in (20, 40)])
    log.show(Picture("samples", 40, run.directory / "sheet.png", ["a red circle"]))
    log.close(failed=False)
"""


def test_the_real_one_offline(tmp_path, monkeypatch):
    """No account, no network, no terminal; two sittings are parts of one run."""
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    Image.new("RGB", (6, 4)).save(tmp_path / "sheet.png")
    words = [sys.executable, "-c", OFFLINE, str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and done.stderr == ""
    assert all(line.startswith("wandb: nobody is logged in") for line in lines)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    (name,) = {file.name for file in files}  # of one id
    assert f"offline-run-*-{name[4:-6]}" in lines[0]
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/samples*.png"))


def test_online_is_refused_where_the_environment_says_otherwise(wandb, monkeypatch):
    wandb.logged_in = True
    log = Wandb(**SETTINGS | {"mode": "online"})
    log.require()
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ValueError, match="WANDB_MODE=offline is set, which wandb obeys: unset it"):
        log.require()
    Wandb(**SETTINGS).require()  # auto does as it says
