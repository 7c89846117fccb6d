"""What the record says of machine and installation, and what it never says."""

import importlib.metadata

from ldm.apps.record.environment import environment, packages, variables


def test_versions_are_those_that_the_packages_say():
    found = packages()
    for name in ("torch", "hydra-core", "pytorch-lightning", "numpy"):
        assert found[name] == importlib.metadata.version(name)


def test_variables_that_steer_are_kept_and_secrets_are_not(monkeypatch):
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "WANDB_MODE"):
        monkeypatch.setenv(name, "1")
    for name in ("WANDB_API_KEY", "HF_TOKEN", "LDM_SECRET", "SLURM_JWT", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("LDM_CACHE", "s3://user:hidden@host/x")
    found = variables()
    assert found["NCCL_DEBUG"] == found["OMP_NUM_THREADS"] == "1"
    assert "hidden" not in "".join([*found, *found.values()])


def test_the_machine_is_described():
    found = environment("cpu")
    assert found["gpus"] == [] and found["python"].startswith("3.") and found["cpus"] >= 1
