"""Commands on shards at a url: what they make is what they make of the directory itself."""

import shutil
from pathlib import Path

import pytest

from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from ldm.manifest import read_json, read_manifest
from tests.data.served import served


@pytest.fixture(scope="module")
def shards(ldm, tmp_path_factory) -> Path:
    """64 drawn shapes in several shards."""
    root = tmp_path_factory.mktemp("shards") / "shards"
    assert ldm("prepare", "data=shapes", "data.num_train=64", "data.num_held_out=16",
               "data.size_px=32", "data.shard_mb=0.06", f"out={root}") == 0  # fmt: skip
    assert len(list(root.glob("*.tar"))) > 2
    return root


def losses(run: Path) -> list[dict]:
    return [
        {k: row[k] for k in row.keys() - OF_THE_MACHINE}
        for row in read_jsonl(run / "metrics.jsonl")
    ]


def test_training_at_a_url_is_training_on_the_directory(world, ldm, shards, tmp_path, capsys):
    words = ["data.order=streamed", "data.lanes=2", "data.cache_gb=0.0003"]
    with served(shards) as server:
        for root, run in ((shards, "local"), (server.url, "remote")):
            more = [*words, f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}"]
            assert ldm(*world.train("autoencoder", tmp_path / run, *more)) == 0
        assert "shuffled" not in capsys.readouterr().out
        assert losses(tmp_path / "local") == losses(tmp_path / "remote")
        local, remote = (read_manifest(tmp_path / run).inputs for run in ("local", "remote"))
        assert remote["shards"] == {**local["shards"], "path": server.url}
        again = [f"data.root={server.url}", f"data.cache_dir={tmp_path / 'cache'}", "max_steps=1"]
        assert ldm(*world.train("text_encoder", tmp_path / "text", *again)) == 0
        assert "data.order=streamed reads shard after shard" in capsys.readouterr().out


def test_a_cache_made_at_a_url_has_the_same_arrays(world, ldm, shards, tmp_path):
    words = ["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
             "block=16", f"data.cache_dir={tmp_path / 'cache'}"]  # fmt: skip
    assert ldm(*words, f"data.root={shards}", f"out={tmp_path / 'local'}") == 0
    with served(shards) as server:
        assert ldm(*words, f"data.root={server.url}", f"out={tmp_path / 'remote'}") == 0
    files = [p.relative_to(tmp_path / "local") for p in (tmp_path / "local").rglob("*.npy")]
    assert len(files) > 6
    for name in files:
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "remote" / name).read_bytes()
    manifests = [read_json(tmp_path / out / "manifest.json") for out in ("local", "remote")]
    assert manifests[1]["inputs"]["shards"]["path"] == server.url
    assert manifests[0]["fingerprint"] == manifests[1]["fingerprint"]
    run = tmp_path / "run"  # which asks nothing of the shards
    assert ldm(*world.train("diffusion", run, f"data.root={tmp_path / 'remote'}")) == 0


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_shard_that_is_gone_is_a_sentence(world, ldm, shards, tmp_path, capsys, workers):
    shutil.copytree(shards, tmp_path / "uploaded")
    for path in (tmp_path / "uploaded").glob("*.tar"):
        path.unlink()
    with served(tmp_path / "uploaded") as server:
        more = [f"data.root={server.url}", f"data.cache_dir={tmp_path / 'cache'}"]
        more += [f"data.workers={workers}"]
        assert ldm(*world.train("autoencoder", tmp_path / "run", *more)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ldm: {server.url}/0000") and "could not be fetched" in said
    assert "Traceback" not in said


def test_check_looks_at_what_was_uploaded(world, ldm, shards, tmp_path, capsys):
    shutil.copytree(shards, tmp_path / "uploaded")
    with served(tmp_path / "uploaded") as server:
        words = ["check", f"data.root={server.url}", f"data.cache_dir={tmp_path / 'cache'}"]
        assert ldm(*words, "data.cache_gb=1", "decode=true") == 0
        said = capsys.readouterr().out
        assert "64 samples without a fault (every picture decoded)" in said
        assert "held_out: 16 samples without a fault" in said
        (tmp_path / "uploaded" / "000001.tar").unlink()
        shutil.rmtree(tmp_path / "cache")
        assert ldm(*words) == 1
        assert f"{server.url}/000001.tar could not be fetched" in capsys.readouterr().out
        assert ldm(*words, "data.cache_gb=much") == 2
        assert "data.cache_gb=much does not fit" in capsys.readouterr().err


def test_check_says_what_training_would_lack(world, ldm, shards, tmp_path, capsys):
    with served(shards) as server:
        words = world.settings["autoencoder"]
        more = [f"run={tmp_path / 'run'}", f"data.cache_dir={tmp_path / 'cache'}"]
        assert ldm("check", *words, *more, f"data.root={server.url}") == 0
        assert "before it can run" not in capsys.readouterr().out
        assert ldm("check", *words, *more, f"data.root={server.url}/x") == 0
        assert "x/index.json does not exist" in capsys.readouterr().out
        assert ldm("check", *world.settings["diffusion"], *more, f"data.root={server.url}") == 0
        assert "a latent cache is read where it is; copy it here" in capsys.readouterr().out


def test_evaluation_at_a_url_is_evaluation_on_the_directory(world, ldm, shards, tmp_path):
    words = ["evaluate", f"model={world.root}", "metrics=[reconstruction]", "num_samples=4",
             "steps=1", "accelerator=cpu", f"data.cache_dir={tmp_path / 'cache'}"]  # fmt: skip
    with served(shards) as server:
        for root, out in ((shards, "local.json"), (server.url, "remote.json")):
            assert ldm(*words, f"data.root={root}", f"out={tmp_path / out}") == 0
    assert read_json(tmp_path / "local.json") == read_json(tmp_path / "remote.json")
