"""Searches: the study goes on where it was killed, and no number is compared with another kind."""

import json
import sys
from types import SimpleNamespace

import pytest

from ldm.apps.exit_codes import STOPPED
from ldm.apps.sweeps.objective import not_comparable, objective_of
from ldm.apps.sweeps.space import read_space
from ldm.apps.sweeps.study import Study
from ldm.manifest import read_json, write_json

SPACE = read_space(
    ["lr=tag(log,interval(1e-4,1e-2))", "global_batch=range(4,16,step=4)", "optimizer=adamw,muon"]
)[1]


def search(**more):
    settings = {"method": "tpe", "seed": 0, "startup_trials": 3, "pruner": "none"}
    settings |= {"prune_after_trials": 1, "prune_after_steps": 0}
    return SimpleNamespace(**settings | more)


def loss(words):
    given = dict(word.split("=") for word in words)
    return abs(float(given["lr"]) - 2e-3) + int(given["global_batch"]) / 1e4


def tried(study, count):
    """Trials asked for and told one after the other."""
    found = []
    for _ in range(count):
        trial = study.ask()
        study.tell(trial.number, loss(trial.words), "complete")
        found.append(trial)
    return found


def test_trials_follow_from_the_seed_and_those_before(tmp_path):
    whole = tried(Study(tmp_path / "a", SPACE, search(), "minimize"), 7)
    assert [trial.number for trial in whole] == [*range(7)] and len({t.words for t in whole}) == 7
    tried(Study(tmp_path / "b", SPACE, search(), "minimize"), 4)
    broken_off = Study(tmp_path / "b", SPACE, search(), "minimize").ask()
    assert broken_off == whole[4]
    study = Study(tmp_path / "b", SPACE, search(), "minimize")  # another process
    assert len(study) == 5 and study.unfinished() == [broken_off]
    study.tell(4, loss(broken_off.words), "complete")
    assert study.unfinished() == [] and tried(study, 2) == whole[5:]
    assert tried(Study(tmp_path / "c", SPACE, search(seed=1), "minimize"), 1) != whole[:1]


def test_what_is_typed_is_what_is_recorded(tmp_path):
    study = Study(tmp_path, SPACE, search(method="random"), "minimize")
    for trial in tried(study, 5):
        given = dict(word.split("=") for word in trial.words)
        recorded = study._study.trials[trial.number].params
        assert float(given["lr"]) == recorded["lr"] and 1e-4 <= recorded["lr"] <= 1e-2
        assert given["global_batch"] in ("4", "8", "12") and given["optimizer"] in ("adamw", "muon")
        assert len(given["lr"]) <= 9


def test_the_median_gives_up_on_what_is_worse_also_after_a_restart(tmp_path):
    settings = search(pruner="median")
    study = Study(tmp_path, SPACE, settings, "minimize")
    first = study.ask()
    assert not study.is_hopeless(first.number, [(1, 0.5), (2, 0.4)])
    study.tell(first.number, 0.4, "complete")
    second = study.ask()
    assert not study.is_hopeless(second.number, [(1, 0.1)])
    study = Study(tmp_path, SPACE, settings, "minimize")
    assert not study.is_hopeless(second.number, [(1, 0.1)])
    better_once = study.is_hopeless(second.number, [(1, 0.1), (2, 0.9)])
    assert not better_once  # the best so far counts
    third = study.ask()
    assert study.is_hopeless(third.number, [(1, 0.9)])
    study.tell(third.number, None, "pruned")
    assert [state for state, _ in study.ended()] == ["complete", "pruned"]


def test_a_trial_that_a_kill_left_before_it_was_asked_for_is_taken_up(tmp_path):
    study = Study(tmp_path, SPACE, search(), "minimize")
    words = ["lr=0.001", "global_batch=8", "optimizer=muon"]
    params = {"lr": 0.001, "global_batch": 8, "optimizer": "muon"}
    study._study.enqueue_trial(params, user_attrs={"words": words})
    (trial,) = study.unfinished()
    assert trial.words == tuple(words) and len(study) == 1 and study.unfinished() == [trial]


def test_a_study_of_another_direction_is_refused(tmp_path):
    Study(tmp_path, SPACE, search(), "minimize")
    with pytest.raises(ValueError, match="another sweep_dir="):
        Study(tmp_path, SPACE, search(), "maximize")


def test_without_optuna_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match="pip install 'optuna"):
        Study(tmp_path, SPACE, search(), "minimize")


@pytest.mark.parametrize(
    ("name", "direction"),
    [("val/loss", "minimize"), ("FID-256", "minimize"), ("kid_own-128", "minimize"),
     ("clip_score", "maximize"), ("val/psnr", "maximize"), ("val/retrieval", "maximize")],
)  # fmt: skip
def test_directions_are_known_or_asked_for(name, direction):
    assert objective_of(SimpleNamespace(objective=name, direction=None)).direction == direction
    with pytest.raises(ValueError, match="sweep.direction=minimize"):
        objective_of(SimpleNamespace(objective="val/kl_per_dimension", direction=None))


def test_a_metric_has_one_name_whichever_was_given():
    for name in ("val/kid_own-128", "val/FID-256", "val/loss", "val/psnr"):
        found = objective_of(SimpleNamespace(objective=name, direction=None)).name
        is_metric = "-" in name
        assert found == (name.removeprefix("val/") if is_metric else name)


def test_models_may_differ_and_ways_of_measuring_may_not():
    first = {"model": "a", "n": 128, "versions": {"torch": "1"}, "settings": {"schedule": "x"}}
    assert not_comparable(first, first | {"model": "b", "versions": {"torch": "2"}}) == []
    assert not_comparable(first, first | {"n": 64}) == ["n"]
    assert not_comparable(first, first | {"settings": {"schedule": "y"}}) == ["settings.schedule"]


# Whole searches, over jobs that leave what a training run would.


def leave(job, values, *, finished=True, **protocol):
    """The files of a run whose held-out loss was ``values`` by step."""
    from omegaconf import OmegaConf

    directory = job.directory
    rows = [{"step": step, "val/loss": value} for step, value in values]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "config.yaml").write_text(OmegaConf.to_yaml(job.config, resolve=True))
    write_json(
        directory / "inputs.json", {"latents": {"path": "/x", "fingerprint": "f", **protocol}}
    )
    return 0


@pytest.fixture
def command(world, tmp_path):
    words = world.train("diffusion", tmp_path, f"sweep_dir={tmp_path / 'search'}", "sweep=tpe")
    words = [w for w in words[1:] if not w.startswith(("run=", "lr=", "max_steps="))]
    return [
        "train", "-m", *words, "lr=tag(log,interval(1e-4,1e-2))", "drop_rate=interval(0,0.3)",
        "max_steps=10", "sweep.startup_trials=3", "sweep.trials=5",
    ]  # fmt: skip


def test_a_search_goes_on_after_a_stop_without_repeating(command, ldm, tmp_path, jobs, capsys):
    def run(job):
        if job.number == 4:
            return STOPPED
        return 1 if job.number == 2 else leave(job, [(10, job.config.lr)])

    first = jobs(run)
    assert ldm(*command) == STOPPED
    assert [job.number for job in first] == [1, 2, 3, 4]
    second = jobs(lambda job: leave(job, [(10, job.config.lr)]))
    assert ldm(*command) == 1  # one has failed
    assert [job.number for job in second] == [4, 5] and second[0].choice == first[3].choice
    root = tmp_path / "search"
    states = [job["state"] for job in read_json(root / "sweep.json")["jobs"]]
    assert states == ["finished", "failed", "finished", "finished", "finished"]
    third = jobs(lambda job: leave(job, [(10, job.config.lr)]))
    assert ldm(*command) == 1 and not third
    said = capsys.readouterr()
    assert "4 of 5 jobs finished, 1 failed" in said.out and "failed: lr=" in said.err
    assert ldm(*command, "sweep.trials=6") == 1 and [job.number for job in third] == [6]
    page = (root / "index.html").read_text()
    assert "The search" in page and "tpe, to minimize val/loss" in page
    lrs = {job.choice[0].partition("=")[2]: job.config.lr for job in (*first, *second, *third)}
    best = min(lr for job, lr in ((j, j.config.lr) for j in (*first, *second, *third))
               if job.number != 2)  # fmt: skip
    lines = (root / "table.md").read_text().splitlines()
    (marked,) = [line for line in lines if "**" in line]
    assert lrs[marked.split(" | ")[0].removeprefix("| ")] == best
    assert f"Best: val/loss {best:.2g} with lr={best}" in page
    assert ldm(*command, "ema_decay=0.8") == 2
    assert "jobs had other settings (ema_decay" in capsys.readouterr().err
    assert ldm(*command, "weighting=uniform,min_snr") == 2
    assert "over lr, drop_rate" in capsys.readouterr().err


def test_a_trial_without_its_number_or_of_another_protocol_fails(
    command, ldm, tmp_path, jobs, capsys
):
    def run(job):
        if job.number == 2:
            return leave(job, [(10, 1.0)], fingerprint="other")
        return leave(job, [(10, float("nan") if job.number == 3 else 1.0)])

    jobs(run)
    assert ldm(*command) == 1
    out, said = capsys.readouterr()
    assert "3 of 5 jobs finished, 2 failed" in out
    assert "val/loss was measured otherwise than in the trials before (inputs.latents)" in said
    assert "val/loss is nan" in said and said.count("failed: lr=") == 2


def test_an_objective_that_changes_its_meaning_is_refused_before_the_first(
    command, ldm, jobs, capsys
):
    started = jobs(lambda job: 0)
    assert ldm(*command, "prediction=epsilon,v") == 2
    said = capsys.readouterr().err
    assert "cannot be compared, for settings.prediction" in said and not started


def test_mistakes_in_any_value_come_before_the_first(command, ldm, jobs, capsys):
    started = jobs(lambda job: 0)
    assert ldm(*command, "global_batch=choice(8,few)") == 2
    assert "global_batch='few' does not fit" in capsys.readouterr().err and not started
    assert ldm(*command, "sweep.objective=val/kl_per_dimension") == 2
    assert "sweep.direction=minimize" in capsys.readouterr().err
    assert ldm(*command, "sweep.objective=kid_own-128") == 2
    assert "Set evaluate_every= and metrics=[...]" in capsys.readouterr().err
    assert ldm(*command, "sweep.objective=val/kid_own-128") == 2  # as metrics.jsonl names it
    assert "kid_own-128: it is a number of evaluations" in capsys.readouterr().err
    assert ldm(*command, "validate_every=11") == 2
    assert "Set validate_every=10, or less" in capsys.readouterr().err and not started


def test_a_search_for_what_no_job_has_ends_with_the_first(command, ldm, jobs, capsys):
    started = jobs(lambda job: leave(job, [(10, 1.0)]))
    assert ldm(*command, "sweep.objective=val/los", "sweep.direction=minimize") == 1
    said = capsys.readouterr().err
    assert "the job has no val/los. Did you mean 'val/loss'?" in said and len(started) == 1


def test_a_setting_is_drawn_as_before(command, ldm, jobs, capsys):
    jobs(lambda job: leave(job, [(10, 1.0)]))
    assert ldm(*command, "sweep.trials=1") == 0
    evenly = [w.replace("tag(log,interval(1e-4,1e-2))", "interval(1e-4,1e-2)") for w in command]
    assert ldm(*evenly, "sweep.trials=2") == 2
    said = capsys.readouterr().err
    assert "over lr, drop_rate (lr as log FloatDistribution, not FloatDistribution)" in said
    assert ldm(*command, "sweep.trials=2") == 0
    assert "2 of 2 jobs finished" in capsys.readouterr().out


@pytest.mark.slow
def test_values_in_no_order_stay_the_same_over_a_search(command, ldm, jobs, capsys):
    jobs(lambda job: leave(job, [(10, 1.0)]))
    assert ldm(*command, "optimizer=adamw,muon_short", "sweep.trials=1") == 0
    assert ldm(*command, "optimizer=adamw,muon", "sweep.trials=2") == 2
    assert "over lr, drop_rate, optimizer=adamw,muon_short" in capsys.readouterr().err
    moved = [word.replace("interval(0,0.3)", "interval(0,0.2)") for word in command]
    assert ldm(*moved, "optimizer=adamw,muon_short", "sweep.trials=2") == 0
