"""`ldm COMMAND key=value ...`: finds the command, prints its mistakes as sentences."""

import importlib
import os
import sys
from collections.abc import Sequence

from ldm.apps.exit_codes import FINISHED, INTERRUPTED, MISTAKE
from ldm.apps.process_start import BEGUN  # noqa: F401  first of all, for max_time

COMMANDS = {
    "prepare": "any source of pictures -> checked image shards",
    "train": "one stage: text_encoder, autoencoder or diffusion",
    "cache": "shards -> latents and token ids, once",
    "sample": "prompts, and pictures to begin from -> pictures",
    "evaluate": "a model -> metrics with their protocol",
    "materials": "what a model was made of: weights of others, data, licences",
    "export": "a model -> a folder or file for other programs",
    "import": "a model of other origin -> a run of ours",
    "run": "a whole road: recipe=demo, digits or folder",
    "sweep": "the table of a sweep (`ldm train -m`, `ldm evaluate -m`)",
    "logs": "what a run has logged, as a table or in wandb, TensorBoard, CSV",
    "check": "verify a command's settings and inputs, or shards",
    "plan": "what a training will take: FLOPs, memory, hours, cost",
    "config": "a command's settings, each with where its value comes from",
    "weights": "pretrained files of others: list, fetch, check",
    "doctor": "what this machine and installation offer",
}
EXAMPLES = {
    "prepare": ["data=shapes out=shards", "data=folder data.path=PICTURES out=shards"],
    "train": [
        "experiment=demo_diffusion data.root=runs/demo/latents",
        "experiment=demo_autoencoder data.root=shards run=runs/a max_steps=2000",
        "-m experiment=demo_diffusion data.root=LATENTS lr=1e-3,2e-3   (a sweep)",
        "-m experiment=demo_diffusion data.root=LATENTS sweep=tpe 'lr=interval(1e-4,1e-2)'"
        "   (a search)",
        "replay=runs/demo_diffusion/dumps/step_000001234.json   (a step that was not finite)",
    ],
    "cache": ["autoencoder_run=runs/a text_run=runs/t data.root=shards out=latents"],
    "sample": [
        'model=runs/demo prompt="a large red circle on a navy background" num=4',
        'model=runs/demo prompt="a blue square" image=photo.png strength=0.6',
        'model=runs/demo prompt="a blue square" image=photo.png mask=white_is_painted.png',
        'model=runs/demo prompt="a red circle" prompt_to="a blue square" seed_to=7 num=9',
    ],
    "evaluate": [
        "model=runs/demo data.root=runs/demo/shards metrics=[reconstruction,fd_own]",
        "compare=[runs/a/metrics.json,runs/b/metrics.json]   (number by number)",
        "-m model=runs/demo guidance=1,2,4,8 metrics=[fd_own,clip_score_own] out=runs/demo/sweep",
    ],
    "materials": ["model=runs/demo", "model=runs/demo_diffusion out=materials.json"],
    "export": [
        "model=runs/demo format=diffusers out=exports/demo",
        "model=runs/sd1_256 format=single_file out=exports/sd1_256",
    ],
    "import": ["from=MODELS/stable-diffusion-v1-5 run=runs/sd15"],
    "run": ["recipe=demo", "recipe=digits", "recipe=folder data.path=PICTURES size=64"],
    "sweep": ["table sweeps/demo_diffusion"],
    "logs": [
        "show runs/demo/diffusion",
        "replay run=runs/demo/diffusion logger=tensorboard   (also wandb, csv: [wandb,csv])",
    ],
    "check": [
        "train experiment=sd1_256",
        "experiment=demo_diffusion data.root=LATENTS",
        "data.root=SHARDS decode=true   (shards against their index; also latents)",
    ],
    "plan": [
        "experiment=sd1_256 gpu=h100 gpus=8,64,256 price_per_gpu_hour=2.5",
        "experiment=sd1_256 phases=[256:237000,512:934000] gpu=a100 out=plan.json",
        "experiment=demo_diffusion measure=true",
    ],
    "config": [
        "experiment=sd1_256",
        "experiment=demo_diffusion optimizer=adamw lr optimizer   (these parts of it)",
        "sample model=runs/demo sampler=ddim",
    ],
    "weights": ["list", "fetch inception_fid vgg16", "fetch all weights_dir=WEIGHTS", "check"],
    "doctor": ["", "run_dir=/scratch data.root=LATENTS data.workers=4", "out=doctor.json"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A user's mistake is a sentence on stderr and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            return _show(_overview())
        return _run(words[0], words[1:])
    except BrokenPipeError:
        if words and words[0] not in _SHOWS and not {"-h", "--help"} & {*words}:
            raise  # work is left undone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINISHED  # who reads has enough: `ldm weights list | head` is no failure
    except KeyboardInterrupt:
        stopped = "interrupted; the same command goes on from the last finished part."
        return _complain(stopped, INTERRUPTED)
    except Exception as error:
        from ldm.apps.errors import UserError, in_words

        said = in_words(error)
        if said is None or (os.environ.get("LDM_TRACEBACK") and not isinstance(error, UserError)):
            raise
        return _complain(said)


# Commands that do nothing but say something.
_SHOWS = ("help", "materials", "sweep", "logs", "check", "plan", "config", "weights", "doctor")
# Commands that read their words themselves, and where they are.
_OF_WORDS = {
    "logs": "ldm.apps.logs", "plan": "ldm.apps.plan", "weights": "ldm.apps.weights_command",
}  # fmt: skip


def _run(command: str, words: list[str]) -> int:
    if command not in COMMANDS:
        from ldm.apps.errors import suggestion

        return _complain(f"{command!r} is no command. {suggestion(command, COMMANDS)}")
    if command == "doctor":
        from ldm.apps import doctor

        return doctor.main(words)
    config_dir, words = _option(words, "--config-dir")
    marks = ("-m", "--multirun", "-h", "--help")
    given, words = {w for w in words if w in marks}, [w for w in words if w not in marks]
    if given & {"-h", "--help"}:
        return _help(command, words, config_dir)
    if given:
        return _sweep(command, words, config_dir)
    if command in ("check", "config"):
        return _of_another(command, words, config_dir)
    if command == "sweep":
        from ldm.apps.sweeps.table_command import sweep_command

        return sweep_command(words)
    if command in _OF_WORDS:
        module = importlib.import_module(_OF_WORDS[command])
        return int(getattr(module, command)(words, config_dir=config_dir))
    if command in ("train", "evaluate"):
        from ldm.apps.sweeps.settings import require_no_sweep

        require_no_sweep(command, words)
    return execute(command, words, config_dir=config_dir)


def _help(command: str, words: list[str], config_dir: str | None) -> int:
    """That of a command, or of the setting or group that is named."""
    from ldm.apps.help import command_help, detailed_help

    if words:
        return _show(detailed_help(command, words[0], config_dir))
    return _show(command_help(command, COMMANDS[command], EXAMPLES[command], config_dir))


def _sweep(command: str, words: list[str], config_dir: str | None) -> int:
    if command not in ("train", "evaluate"):
        from ldm.apps.errors import UserError

        raise UserError(
            f"-m sweeps over `ldm train` and `ldm evaluate`, not `ldm {command}`. Leave it out, "
            "with one value of each setting."
        )
    from ldm.apps.sweeps.command import sweep

    return sweep(command, words, config_dir=config_dir)


def _of_another(command: str, words: list[str], config_dir: str | None) -> int:
    """Those that look at the settings of a command, which is `train` where none is named."""
    if command == "check":
        from ldm.apps.check_data import check_data, is_about_data

        if is_about_data(words):
            return check_data(words)
    named, words = (words[0], words[1:]) if words[:1] and words[0] in COMMANDS else ("train", words)
    if named in (*_OF_WORDS, "sweep", "doctor", "check", "config"):
        from ldm.apps.errors import UserError

        raise UserError(
            f"`ldm {named}` verifies its words itself, and `ldm {command}` does not know it. "
            f"`ldm {named} --help` shows its settings."
        )
    if command == "check":
        from ldm.apps.check import check

        return check(named, words, config_dir=config_dir)
    from ldm.apps.show_config import show_config

    return show_config(named, words, config_dir=config_dir)


def execute(command: str, words: Sequence[str], *, config_dir: str | None = None) -> int:
    """Compose, verify and run one command."""
    dump, others = _option(list(words), "replay")
    if command == "train" and dump is not None:  # takes the configuration of the dump's run
        from ldm.apps.replay import replay

        return replay(dump, others)
    files, others = _option(list(words), "compare")
    if command == "evaluate" and files is not None:  # finished metrics files, and nothing else
        from ldm.apps.evaluations.compare import compare, files_of

        return compare(files_of(files, others))
    from ldm.apps.compose import compose

    if command == "train":
        from ldm.apps.record.file import Typed
        from ldm.apps.taken_up import taken_up

        typed = taken_up(Typed(words, config_dir))
        config = compose(command, typed.words, config_dir=typed.config_dir)
        from ldm.apps.verify import require_sound  # with torch: mistakes in words come first

        require_sound(command, config, config_dir=typed.config_dir, words=typed.words)
        from ldm.apps.train import train

        return train(config, typed)
    config = compose(command, words, config_dir=config_dir)
    from ldm.apps.verify import require_sound

    require_sound(command, config, config_dir=config_dir, words=words)
    name = {"import": "import_model"}.get(command, command)  # the other is Python's own word
    module = importlib.import_module(f"ldm.apps.{name}")
    if command == "run":
        return int(module.run(config, config_dir=config_dir))
    return int(getattr(module, name)(config))


def _option(words: list[str], name: str) -> tuple[str | None, list[str]]:
    """The value of ``name VALUE`` or ``name=VALUE``, and the other words."""
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1], words[:i] + words[i + 2 :]
        if word.startswith(f"{name}="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
    return None, words


def _show(text: str) -> int:
    print(text, flush=True)
    return FINISHED


def _complain(message: str, code: int = MISTAKE) -> int:
    print(f"ldm: {message}", file=sys.stderr)
    return code


def _overview() -> str:
    lines = [
        "ldm: train latent diffusion models from nothing",
        "",
        "usage: ldm COMMAND key=value ...",
    ]
    lines += ["", *(f"  {name:10} {what}" for name, what in COMMANDS.items())]
    lines += ["", "`ldm COMMAND --help` shows a command's settings and examples.", ""]
    return "\n".join([*lines, "The shortest way to see it all: ldm run recipe=demo"])


if __name__ == "__main__":
    sys.exit(main())
