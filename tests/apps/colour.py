"""`ldm` with metrics=colour: how far the mean colour of pictures is from that of real ones."""

import sys
from pathlib import Path

import torch

from ldm.apps.evaluations import measure
from ldm.apps.evaluations.measure import REFERENCE, Block, Measure, Number
from ldm.apps.main import main
from ldm.metrics.notes import Rows, rows_of

YAML = """# @package metrics.colour
_target_: ldm.apps.evaluations.measure.colour
_partial_: true
pictures: {pictures}
"""


class Colours:
    """An observer that also draws random numbers, which is to change nothing that is learned."""

    name, protocol = "colours", {"features": "mean colour"}

    def __call__(self, block: Block) -> Rows:
        torch.rand(1)
        assert not torch.is_autocast_enabled(block.images.device.type)
        assert block.images.dtype == torch.float32
        return {"mean": block.images.mean((2, 3))}


def colour(setting, *, pictures: str) -> Measure:
    setting.count(pictures)
    observer = Colours()

    def numbers(noted):
        made, real = (rows_of(noted(name, observer), "mean") for name in (pictures, REFERENCE))
        distance = (made.double().mean(0) - real.double().mean(0)).norm()
        yield Number(
            "colour", float(distance), noted.protocol(pictures, REFERENCE) | observer.protocol
        )

    return Measure({pictures: [observer], REFERENCE: [observer]}, numbers)


def config_dir(directory: Path, pictures: str = "samples") -> str:
    """A user's own configurations with metrics=colour."""
    (directory / "metrics").mkdir(parents=True, exist_ok=True)
    (directory / "metrics" / "colour.yaml").write_text(YAML.format(pictures=pictures))
    return f"--config-dir={directory}"


colour.__module__ = measure.__name__  # where the configuration looks for measures
measure.colour = colour  # type: ignore[attr-defined]

if __name__ == "__main__":
    sys.exit(main())
