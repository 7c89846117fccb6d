"""All rules, by command, the cheapest first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ldm.apps.rules import (
    batch,
    caching,
    directories,
    evaluating,
    files,
    latents,
    lengths,
    machine,
    models,
    networks,
    origin,
    pictures,
    precision,
    preparing,
    recipes,
    sampling,
    schedules,
    strategy,
    trial,
)
from ldm.apps.rules.case import Case

Find = Callable[[Case], Iterable[str] | None]  # sentences; one may also be raised as ValueError


class Rule(NamedTuple):
    """What is held against what, for which stages ("" is all), and what finds it broken."""

    about: str
    stages: str
    find: Find

    def applies(self, case: Case) -> bool:
        """Whether it is about what the case trains, if it trains anything."""
        return not self.stages or case.config.stage in self.stages.split()


class Rules(NamedTuple):
    """The rules of a command."""

    settings: Sequence[Rule] = ()  # against each other, whatever there is to run on
    trial: Sequence[Rule] = ()  # likewise, by trying; only where the settings are sound
    inputs: Sequence[Rule] = ()  # against files, which may still change
    machine: Sequence[Rule] = ()  # against this machine, where the command is to run on it
    looked_at: Sequence[Rule] = ()  # likewise, which the command itself does as it begins
    remarks: Sequence[Rule] = ()  # what is allowed, and hardly meant
    remarks_here: Sequence[Rule] = ()  # likewise, where the command is to run on this machine


TRAIN = Rules(
    settings=(
        Rule("weights of 16 bits against the stage", "", precision.weights_of_16_bits),
        Rule("strategy against optimizer, layout, precision, devices", "", strategy.fsdp),
        Rule("activation_checkpointing against the stage", "", strategy.recomputing),
        Rule("global_batch = devices x micro_batch x accumulation", "", batch.divides),
        Rule("the batch at once, where the loss needs it", "", batch.whole_at_once),
        Rule("evaluate_every and metrics: both or none", "", lengths.evaluation),
        Rule("from_scratch against weights of others", "", origin.from_scratch),
        Rule("data.order: latents at random", "diffusion", pictures.order_of_latents),
        Rule("data.lanes against global_batch", "autoencoder text_encoder",
             pictures.lanes_of_a_stream),
        Rule("size against the total stride", "autoencoder", pictures.divisible_by_stride),
        Rule("channels of the parts", "autoencoder", pictures.channels),
        Rule("the GAN after its discriminator", "autoencoder", lengths.gan_after_discriminator),
        Rule("one text tower at a time", "text_encoder", networks.one_tower_at_a_time),
        Rule("groups divide channels", "diffusion autoencoder", networks.groups_divide_channels),
        Rule("heads divide channels", "diffusion", networks.heads_divide_channels),
        Rule("latent channels in and out", "diffusion", networks.latents_in_and_out),
        Rule("heads and patches of the towers", "text_encoder", networks.towers),
        Rule("schedule against prediction", "diffusion", schedules.prediction),
        Rule("schedule against steps and spacing", "diffusion", schedules.grids),
        Rule("schedule against weighting", "diffusion", schedules.weighting),
    ),
    trial=(Rule("one forward and backward on the meta device", "", trial.passes),),
    inputs=(
        Rule("a backbone that models can hold", "diffusion", networks.can_be_written),
        Rule("run= is a directory", "", files.directory_of_the_run),
        Rule("data.root= holds what the stage reads", "", files.data),
        Rule("data.root= holds no other kind", "", files.kind_of_data),
        Rule("latents against size, channels, widths", "diffusion", latents.fit),
        Rule("latents with classes", "diffusion", latents.classes_have_a_width),
        Rule("channels of the shards", "autoencoder", files.channels_of_shards),
        Rule("text_run= of perceptual=own", "autoencoder", files.own_towers),
        Rule("init= holds the part", "", files.beginning),
        Rule("loggers against what is installed", "", machine.loggers),
        Rule("checkpoints against the disk", "", machine.disk),
    ),
    machine=(
        Rule("devices against the machine", "", machine.gpus),
        Rule("devices x num_nodes against the launcher", "", strategy.launched),
        Rule("bf16 against the GPU", "", precision.bf16_of_the_gpu),
        Rule("compile against the toolchain", "", machine.compiler),
        Rule("memory against the device", "", machine.memory),
    ),
    looked_at=(
        Rule("latents against what made them", "diffusion", latents.made_with),
        Rule("metrics against model and pictures", "", evaluating.during_training),
    ),
    remarks=(
        Rule("weighting where sampling begins", "diffusion", schedules.hardly_weighted),
        Rule("fp16 with a GAN", "autoencoder", precision.fp16_of_a_gan),
        Rule("warmup_steps against max_steps", "", lengths.warm_up),
        Rule("what comes every so many steps against max_steps", "", lengths.what_never_happens),
        Rule("the GAN against max_steps", "autoencoder", lengths.gan_that_never_comes),
        Rule("lr against what is usual", "", lengths.learning_rate),
        Rule("flip against captions", "text_encoder", pictures.mirrored),
    ),
    remarks_here=(Rule("several machines need a launcher", "", strategy.nodes_of_the_launcher),),
)  # fmt: skip
TABLE: dict[str, Rules] = {
    "train": TRAIN,
    "prepare": Rules(
        settings=(Rule("settings of source, pictures, shards", "", preparing.source),),
        inputs=(
            Rule("data.path= is there", "", preparing.path),
            Rule("out= is a directory", "", directories.out),
        ),
    ),
    "cache": Rules(
        settings=(
            Rule("condition against text_run and store", "", caching.condition),
            Rule("size against bucket_step", "", caching.shapes),
        ),
        inputs=(
            Rule("out= is a directory of its own", "", caching.out),
            Rule("autoencoder_run= holds one", "", caching.autoencoder),
            Rule("text_run= holds one", "", caching.text_encoders),
            Rule("size against the autoencoder's stride", "", caching.fits_the_autoencoder),
        ),
        machine=(Rule("devices against the machine", "", caching.accelerator),),
        looked_at=(Rule("data.root= holds image shards", "", caching.shards),),
        remarks=(Rule("flip against captions", "", caching.mirrored),),
    ),
    "sample": Rules(
        settings=(Rule("prompts, pictures, ways between them", "", sampling.request),),
        inputs=(
            Rule("model= holds one", "", sampling.model),
            Rule("size against the model's strides", "", sampling.size),
            Rule("steps and spacing against its schedule", "", sampling.levels),
            Rule("out= is a directory", "", sampling.out),
        ),
        machine=(Rule("accelerator against the machine", "", sampling.accelerator),),
        remarks=(Rule("settings of guidance without any", "", sampling.needless_guidance),),
    ),
    "evaluate": Rules(
        settings=(
            Rule("some metric", "", evaluating.metrics),
            Rule("something to judge", "", evaluating.something_to_judge),
            Rule("how to draw against samples=", "", evaluating.nothing_to_draw),
        ),
        inputs=(
            Rule("model= holds one", "", evaluating.model),
            Rule("out= is a file", "", evaluating.out),
        ),
        looked_at=(Rule("metrics against pictures and captions", "", evaluating.sets),),
        remarks=(Rule("settings of guidance without any", "", sampling.needless_guidance),),
    ),
    "export": Rules(
        inputs=(
            Rule("model= is whole", "", models.exported),
            Rule("format against the model", "", models.known_elsewhere),
            Rule("metrics_file= is there", "", models.metrics_file),
            Rule("out= is a directory", "", directories.out),
        ),
    ),
    "import": Rules(
        inputs=(
            Rule("from= is a model, and choices are its own", "", models.source),
            Rule("run= is a directory", "", directories.run),
            Rule("the model against the disk", "", models.room_for_it),
        ),
    ),
    "run": Rules(settings=(Rule("every step against its command", "", recipes.steps),)),
}


def wrong(command: str, case: Case) -> list[str]:
    """What does not go together in a command's settings, all of it."""
    rules = _rules_of(command)
    return _told(rules.settings, case) or _told(rules.trial, case)


def lacking(command: str, case: Case, *, looking: bool, here: bool = True) -> Iterator[str]:
    """What its files and this machine lack; with ``looking`` also what it looks at itself.

    ``here``: it is to run on this machine.
    """
    rules = _rules_of(command)
    machine, looked_at = rules.machine if here else (), rules.looked_at if looking else ()
    yield from _told([*rules.inputs, *machine, *looked_at], case)


def remarks(command: str, case: Case, *, here: bool = True) -> list[str]:
    """What is allowed, and hardly meant; ``here`` as above."""
    rules = _rules_of(command)
    return _told([*rules.remarks, *(rules.remarks_here if here else ())], case)


def _rules_of(command: str) -> Rules:
    """Those of a command; none of one that works on no files, as `ldm weights list`."""
    return TABLE.get(command, Rules())


def _told(rules: Sequence[Rule], case: Case) -> list[str]:
    """A sentence for each that is broken, once: parts that cannot be made tell several rules."""
    found: dict[str, None] = {}
    for rule in rules:
        if not rule.applies(case):
            continue
        try:
            for sentence in rule.find(case) or ():
                found[sentence] = None
        except ValueError as error:  # of what a rule asked, in its own words
            found[str(error)] = None
    return list(found)
