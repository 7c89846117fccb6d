"""Without a network: what a command lacks of pretrained files is all told before it begins."""

import socket

import pytest
from omegaconf import OmegaConf

from ldm import weights
from ldm.apps.main import main
from ldm.apps.missing_weights import missing_weights


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*args, **more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def needs(setting, *, name, **settings):
    """A measure that looks through a pretrained network, whose captions and counts it asks for."""
    assert setting.count("samples") >= 8 and setting.captions("samples")
    weights.find(name, setting.weights_dir, allow_unknown=setting.allow_unknown_weights)


def needs_a_model(setting):
    setting.towers()


def evaluation(tmp_path, **more):
    here = {"_target_": f"{__name__}.needs", "_partial_": True}
    metrics = {
        "fid": here | {"name": "inception_fid"},
        "kid": here | {"name": "inception_fid", "layer": 64},
        "clip_score": here | {"name": "clip_vit_l14"},
        "fd_own": {"_target_": f"{__name__}.needs_a_model", "_partial_": True},
    }
    return OmegaConf.create(
        {"metrics": metrics, "weights_dir": str(tmp_path), "num_samples": 8} | more
    )


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_all_files_of_all_measures_are_named_once(tmp_path, command):
    more = {"stage": "diffusion", "evaluate_every": 5, "evaluation": {"num_samples": 8}}
    found = missing_weights(command, evaluation(tmp_path, **more if command == "train" else {}))
    assert len(found) == 2
    said = " ".join(found)
    for network in ("inception_fid", "clip_vit_l14"):
        for file in weights.TABLE[network].files:
            assert said.count(f"{tmp_path / file.path} (from {file.url})") == 1


def test_stand_ins_are_taken_only_where_they_are_asked_for(tmp_path):
    for name in ("inception_fid", "clip_vit_l14"):
        for file in weights.TABLE[name].files:
            (tmp_path / file.path).parent.mkdir(exist_ok=True)
            (tmp_path / file.path).write_bytes(b"random")
    found = missing_weights("evaluate", evaluation(tmp_path))
    assert len(found) == 2 and all("allow_unknown_weights=true" in said for said in found)
    assert not missing_weights("evaluate", evaluation(tmp_path, allow_unknown_weights=True))


def test_a_run_that_does_not_evaluate_needs_nothing(tmp_path):
    config = evaluation(tmp_path, stage="diffusion", evaluate_every=None)
    assert not missing_weights("train", config)


def test_check_and_training_stop_at_a_missing_trunk(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["experiment=demo_autoencoder", "perceptual=lpips", "data.root=SHARDS", f"run={run}"]
    words += [f"weights_dir={tmp_path}", "accelerator=cpu", "loss.perceptual=1.0"]
    words += ["from_scratch=false"]
    for command in (["check"], ["train"]):
        assert main([*command, *words]) == 2
        said = capsys.readouterr()
        assert f"{tmp_path / 'vgg16-397923af.pth'} (from https://" in said.err
        assert not run.exists()
        assert ("before it can run: data.root=SHARDS" in said.out) == (command == ["check"])


def test_check_names_the_models_that_a_cache_lacks(tmp_path, capsys):
    words = [f"autoencoder_run={tmp_path}/a", f"text_run=[{tmp_path}/t,{tmp_path}/u]"]
    assert main(["check", "cache", *words, "data.root=SHARDS", "out=LATENTS"]) == 0
    said = capsys.readouterr().out
    assert all(f"before it can run: {tmp_path}/{name} does not exist" in said for name in "atu")


def test_check_of_an_evaluation_names_all_files_once(tmp_path, capsys):
    words = ["metrics=[fid,lpips,fd_own]", f"model={tmp_path}/nowhere", "num_samples=4096"]
    assert main(["check", "evaluate", *words, f"weights_dir={tmp_path}"]) == 2
    said = capsys.readouterr()
    for file in ("vgg16-397923af.pth", "weights-inception-2015-12-05-6726825d.pth"):
        assert said.err.count(f"{tmp_path / file} (from https://") == 1
    assert "settings are sound" in said.out and str(tmp_path / "vgg16") not in said.out


def test_missing_files_hide_nothing_else_that_does_not_fit(tmp_path, capsys):
    words = ["evaluate", "metrics=[fid]", "num_samples=4096", f"weights_dir={tmp_path}"]
    for more, said in (
        ([f"samples={tmp_path}", "reference=x", "steps=3"], "steps=: these say how model= makes"),
        ([f"model={tmp_path}/nowhere"], f"{tmp_path}/nowhere does not exist"),
    ):
        assert main([*words, *more]) == 2
        told = capsys.readouterr().err
        assert said in told and "inception-2015-12-05" in told
    assert main(["check", *words, f"samples={tmp_path}", "reference=x", "steps=3"]) == 2
    told = capsys.readouterr().err
    assert "steps=: these say" in told and "inception-2015-12-05" in told
