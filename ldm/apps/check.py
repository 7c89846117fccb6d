"""`ldm check`: a command's settings and inputs verified in seconds, on no device."""

from collections.abc import Iterator, Sequence

from ldm.apps.compose import compose
from ldm.apps.missing_weights import require_none
from ldm.apps.planning.memory import in_words
from ldm.apps.record.file import Typed
from ldm.apps.report.numbers import size_in_words
from ldm.apps.rules.case import Case
from ldm.apps.rules.machine import disk_bytes
from ldm.apps.rules.table import lacking
from ldm.apps.stand_ins import with_data
from ldm.apps.taken_up import taken_up
from ldm.apps.verify import require_settings


def check(command: str, words: Sequence[str], *, config_dir: str | None) -> int:
    """Verify; 0 when the configuration is sound, with what is still missing before it can run.

    UserError that names all that does not fit; and all pretrained files that are missing, which
    no command of ours makes, and this machine may have no network.
    """
    typed = Typed(words, config_dir)
    if command == "train":
        typed = taken_up(typed)
        words = with_data(typed.words, config_dir=typed.config_dir)
    config = compose(command, words, config_dir=typed.config_dir)
    case = Case(config, typed.config_dir, words)
    missing = require_settings(command, case)
    if command == "train":
        print(f"stage {config.stage}: settings are sound; forward and backward fit")
        for name, value in _summary(case):
            print(f"  {name:15} {value}")
    else:
        print(f"`ldm {command}`: settings are sound")
    for lack in lacking(command, case, looking=True):
        if lack not in missing:
            print(f"before it can run: {lack}")
    require_none(missing)
    return 0


def _summary(case: Case) -> Iterator[tuple[str, str]]:
    """What a training run comes to, by name."""
    config, share = case.config, case.share
    name = str(config[case.part]._target_).rpartition(".")[2]
    yield case.part, f"{name} of {case.num_parameters:,} parameters"
    yield (
        "global batch",
        f"{share.global_batch} = {share.world_size} process(es) x {share.micro_batch}"
        + (f" x {share.accumulate} accumulated" if share.accumulate > 1 else ""),
    )
    images = config.max_steps * config.global_batch
    yield (
        "length",
        f"{config.max_steps:,} steps, {images:,} pictures seen, of {config.size} px",
    )
    shape = str(config.learning_rate._target_).rpartition(".")[2]
    optimizer = str(config.optimizer._target_).rpartition(".")[2]
    yield (
        "learning rate",
        f"{config.lr:g} of {optimizer}, {shape} after {config.warmup_steps:,} steps of warm-up",
    )
    yield (
        "runs on",
        f"{config.accelerator}, {config.precision}"
        + (f", {config.strategy}" if share.world_size > 1 else "")
        + (", activations computed again" if config.activation_checkpointing else ""),
    )
    takes = case.footprint
    if takes is None:
        yield "memory, disk", "not known of this network"
        return
    yield "memory", in_words(takes.memory)
    yield (
        "disk",
        f"a checkpoint takes about {size_in_words(takes.checkpoint)}, the run "
        f"{size_in_words(disk_bytes(config, takes))} in {config.run}",
    )
