"""Every metric of configs/metrics gives its function all settings, and only such."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parents[3] / "configs" / "metrics").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_settings_are_those_of_the_function(file):
    node = yaml.safe_load(file.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    assert node.pop("_partial_") is True
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    signature.bind(None, **node)
    assert file.read_text().startswith(f"# @package metrics.{file.stem}\n# ")
