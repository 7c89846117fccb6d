"""What a ``_target_`` may name, and that it is soon known what it takes."""

import re
import subprocess
import sys

import pytest

from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.schema.parts import constructor, described

HEAVY = ("torchmetrics", "torchvision", "scipy", "transformers", "lightning", "timm", "sklearn")
IMPORTS = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
print(*sorted({*sys.modules} & {%s}))
"""


def test_the_shipped_constructors_are_imported_without_heavy_libraries():
    """A mistake in a part's settings is told after this import: it must not take long."""
    texts = [file.read_text() for file in config_root().rglob("*.yaml")]
    named = {name for text in texts for name in re.findall(r"_target_: (ldm\S+)", text)}
    modules = sorted({name.rpartition(".")[0] for name in named})
    assert len(modules) > 30
    code = IMPORTS % ", ".join(map(repr, HEAVY))
    words = [sys.executable, "-c", code, *modules]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    "target, said",
    [
        ("os.system", "is not allowed; it must begin with"),
        ("ldm.nn.nonesuch.Thing", "does not exist"),
        ("ldm.backbones.unet.UNett", "Did you mean 'UNet'"),
        ("ldm.backbones.unett.UNet", "Did you mean 'unet'"),
        ("ldm.backbones.unet.nn", "is not allowed: nn is only imported there"),
    ],
)
def test_a_constructor_that_is_none(target, said):
    with pytest.raises(UserError, match=r"backbone\._target_=") as error:
        constructor("backbone", target)
    assert said in str(error.value)


def test_a_source_takes_the_settings_of_preparing_too():
    source, *others = described("data", "ldm.data.sources.shapes.ShapesSource")
    assert "num_train" in source.settings and source.name == "ShapesSource"
    assert any("square" in each.settings for each in others)
    assert not any(each.takes_any for each in (source, *others))
