"""Configurations: all that is shipped is sound, every mistake is found and explained."""

import os
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError
from ldm.apps.main import EXAMPLES, main
from ldm.apps.schema.annotation import is_described
from ldm.apps.schema.commands import fields_of, settings_of_command
from ldm.apps.yaml_lines import read_yaml_lines

EXPERIMENTS = sorted(path.stem for path in (config_root() / "experiment").glob("*.yaml"))
RECIPES = sorted(path.stem for path in (config_root() / "recipe").glob("*.yaml"))
DIFFUSION = ["experiment=demo_diffusion", "data.root=DATA"]
AUTOENCODER = ["experiment=demo_autoencoder", "data.root=DATA"]


def refused(command, *words, config_dir=None) -> str:
    with pytest.raises(UserError) as error:
        compose(command, list(words), config_dir=config_dir)
    message = str(error.value)
    assert "Traceback" not in message and len(message.splitlines()) == 1
    return message


def recipe_words(recipe):
    return [f"recipe={recipe}", *(["data.path=PICTURES"] if recipe == "folder" else [])]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_passes_its_check(experiment, tmp_path, capsys):
    run = f"run={tmp_path / 'run'}"
    assert check("train", [f"experiment={experiment}", run], config_dir=None) == 0
    said = capsys.readouterr().out
    assert "settings are sound" in said and "forward and backward fit" in said
    assert "before it can run: data.root=DATA holds no" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_says_what_it_reached(experiment):
    """Or that nobody ran it; with the command, the hardware and the pictures seen."""
    text = (config_root() / "experiment" / f"{experiment}.yaml").read_text()
    header = " ".join(line[1:] for line in text.splitlines() if line.startswith("#"))
    for word in ("Command", "Hardware:", "Images:", " seen", "Reached:", "ldm train experiment="):
        assert word in header, word
    reached = header.partition("Reached:")[2]
    assert "not run by us" in reached or re.search(r"\d (s|min) ", reached)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_of_every_recipe_composes_and_passes_its_check(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose("run", recipe_words(recipe))
    assert len(config.steps) >= 5
    for step in config.steps:
        assert check(step.command, list(step.arguments), config_dir=None) == 0, step.name
    assert not list(tmp_path.iterdir())


def test_a_recipe_takes_a_setting_that_is_named_as_a_group():
    config = compose("run", ["recipe=demo", "trainer=gpu"])
    trained = [s for s in config.steps if s.command == "train"]
    assert trained and all("trainer=gpu" in s.arguments for s in trained)
    with pytest.raises(UserError, match="'backbone' is not a setting of this `ldm run`"):
        compose("run", ["recipe=demo", "backbone=unet_sd1"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_settings_of_a_recipe_reach_its_steps(recipe):
    config = compose("run", [*recipe_words(recipe), "out=ELSE/WHERE", "guidance=4.5"])
    assert all(any("ELSE/WHERE" in word for word in step.arguments) for step in config.steps)
    assert "guidance=4.5" in config.steps[-1].arguments


@pytest.mark.parametrize(
    "group",
    [
        "sampler", "schedule", "prediction", "weighting", "logger", "optimizer", "learning_rate",
        "trainer",
    ],
)  # fmt: skip
def test_every_choice_of_a_group_composes(group):
    for path in sorted((config_root() / group).glob("*.yaml")):
        compose("train", [*DIFFUSION, f"{group}={path.stem}"])


TRAINED = {  # networks of experiments, which pass their checks above
    (entry.group.lstrip("/"), entry.names[0])
    for experiment in EXPERIMENTS
    for entry in read_yaml_lines(config_root() / "experiment" / f"{experiment}.yaml").defaults
}
LARGE = {  # seconds each
    "unet_sdxl_refiner", "unet_sd2", "unet_lsun_churches", "openclip_vit_h14",
    "openclip_vit_bigg14",
}  # fmt: skip
NETWORKS = {  # group -> an experiment that trains one
    "backbone": "demo_diffusion", "autoencoder": "demo_autoencoder",
    "discriminator": "demo_autoencoder", "text_encoder": "demo_text_encoder",
}  # fmt: skip


@pytest.mark.parametrize(
    "group, name",
    [
        pytest.param(group, path.stem, marks=[pytest.mark.slow] if path.stem in LARGE else [])
        for group in NETWORKS
        for path in sorted((config_root() / group).glob("*.yaml"))
        # Two towers learn one by one, and nothing here makes the masked pictures of the other.
        if path.stem not in ("sdxl", "unet_sd1_inpaint") and (group, path.stem) not in TRAINED
    ],
)
def test_every_other_network_passes_its_check(group, name, capsys):
    words = [f"experiment={NETWORKS[group]}", f"{group}={name}", "size=64"]
    assert check("train", words, config_dir=None) == 0
    assert "forward and backward fit" in capsys.readouterr().out


def test_the_experiment_of_stable_diffusion_1_has_the_numbers_of_its_model_card():
    config = compose("train", ["experiment=sd1_256", "data.root=DATA"])
    found = {
        "size": 256, "max_steps": 237_000, "global_batch": 32 * 8 * 2 * 4, "lr": 1e-4,
        "warmup_steps": 10_000, "ema_decay": 0.9999, "drop_rate": 0.1, "offset_noise": 0.0,
        "latent_scale": "scalar",
    }  # fmt: skip
    assert {name: config[name] for name in found} == found
    assert (config.schedule.start, config.schedule.end) == (0.00085, 0.012)
    for name, part in {
        "backbone": "unet.UNet", "schedule": "scaled_linear", "prediction": "Epsilon",
        "weighting": "uniform", "optimizer": "AdamW", "learning_rate": "constant",
    }.items():  # fmt: skip
        assert config[name]._target_.endswith(part), name


@pytest.mark.parametrize(
    "words, remedy",
    [
        (["schedule=flow"], "prediction=flow with schedule=flow"),
        (["schedule=flow", "prediction=v"], "prediction=flow with schedule=flow"),
        (["prediction=flow"], "schedule=flow"),
        (["schedule=cosine", "schedule.zero_terminal_snr=true"], "prediction=v or sample"),
        (["schedule=flow", "prediction=flow", "preview.spacing=karras"], "spacing=trailing"),
    ],
)
def test_schedule_and_prediction_must_fit(words, remedy, tmp_path):
    with pytest.raises(ValueError, match=remedy):
        check("train", [*DIFFUSION, f"run={tmp_path}", *words], config_dir=None)


# They take commands, or words of their own.
NO_SETTINGS = {"check", "config", "doctor", "logs", "plan", "sweep", "weights"}


@pytest.mark.parametrize("command", sorted(set(EXAMPLES) - NO_SETTINGS))
def test_the_examples_of_the_help_compose(command):
    for example in EXAMPLES[command]:
        words = shlex.split(example.partition("   (")[0])
        if "-m" in words or words[0].startswith(("replay=", "compare=")):
            continue  # of finished runs, which have their own configuration
        compose(command, words)


@pytest.mark.parametrize("command", ["sample", "evaluate"])
@pytest.mark.parametrize(
    "word",
    [
        "guidance_rescale=1.5", "guidance_rescale=-1", "guidance_interval=0.3",
        "guidance_interval=[3,1]", "guidance_interval=[1]", "guidance_interval=[0,.inf]",
        "spacing=difusers",
    ],
)  # fmt: skip
def test_sampling_options_out_of_range(command, word):
    more = ["data.root=D", "metrics=fid"] if command == "evaluate" else []
    assert f"{word.partition('=')[0]}=" in refused(command, "model=M", *more, word)


ROOT_KEYS = [
    "max_steps", "global_batch", "warmup_steps", "validate_every", "keep_checkpoints", "ema_decay",
    "precision", "drop_rate",
]  # fmt: skip
NESTED_KEYS = [
    "backbone.channels", "schedule.num_steps", "optimizer.betas", "learning_rate.peak",
    "data.workers", "preview.guidance",
]  # fmt: skip


def misspelt(key):
    """The key with its third letter from the end doubled."""
    return key[:-2] + key[-3] + key[-2:]


@pytest.mark.parametrize("key", ROOT_KEYS + NESTED_KEYS)
def test_one_letter_wrong_on_the_command_line(key):
    message = refused("train", *DIFFUSION, f"{misspelt(key)}=1")
    assert f"'{misspelt(key)}' is not a setting" in message
    assert "Did you mean" in message and f"'{key}'" in message


def user_configs(tmp_path, text, group="experiment", name="mine"):
    folder = tmp_path / "configs" / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)
    return str(tmp_path / "configs")


def experiment(body, stage="diffusion"):
    return f"# @package _global_\ndefaults:\n  - demo_{stage}\n{body}\n"


def nested(key, value):
    *parents, last = key.split(".")
    text = f"{last}: {value}"
    for parent in reversed(parents):
        text = f"{parent}: {{{text}}}"
    return text


@pytest.mark.parametrize("key", ROOT_KEYS + NESTED_KEYS)
def test_one_letter_wrong_in_a_users_yaml(key, tmp_path):
    folder = user_configs(tmp_path, experiment(nested(misspelt(key), 1)))
    message = refused("train", "experiment=mine", "data.root=DATA", config_dir=folder)
    last, parent = key.split(".")[-1], ".".join(key.split(".")[:-1])
    assert misspelt(last) in message and parent in message
    assert "Did you mean" in message and last in message


def test_a_users_experiment_without_mistakes_composes(tmp_path):
    folder = user_configs(tmp_path, experiment("max_steps: 7\nbackbone: {groups: 4}"))
    config = compose("train", ["experiment=mine", "data.root=DATA"], config_dir=folder)
    assert config.max_steps == 7 and config.backbone.groups == 4
    folder = user_configs(tmp_path, "a: b", group="sampler", name="own")
    assert "_target_" in refused("train", *DIFFUSION, "sampler=own", config_dir=folder)
    assert "no such directory" in refused("train", *DIFFUSION, config_dir=str(tmp_path / "none"))


def test_a_check_names_a_model_that_is_not_there(tmp_path, capsys):
    for words in (["sample", "prompt=x"], ["evaluate", "data.root=S", "metrics=fd_own"]):
        assert main(["check", *words, f"model={tmp_path / 'nowhere'}"]) == 0
        said = capsys.readouterr().out
        assert "settings are sound" in said
        assert f"before it can run: {tmp_path / 'nowhere'} does not exist" in said


def test_a_setting_of_another_stage_is_refused():
    assert "'loss.gan' is not a setting" in refused("train", *DIFFUSION, "loss.gan=1")
    assert "'drop_rate' is not a setting" in refused("train", *AUTOENCODER, "drop_rate=0.2")


def test_a_group_of_another_stage_is_no_endless_search():
    for words in (
        ["experiment=demo_diffusion", "stage=text_encoder", "backbone.channels=[8,16]"],
        ["experiment=demo_text_encoder", "backbone=unet_sd1"],
    ):
        assert "'backbone' has no place in this `ldm train`" in refused("train", *words)


def test_new_entries_of_a_mapping_are_told_how_to_enter():
    words = ("experiment=demo_text_encoder", "data.root=DATA", "text_encoder.vision={patch_size:4}")
    assert "+text_encoder.vision.NAME=VALUE" in refused("train", *words)


WRONG = {
    "lr=fast": "a number above 0", "lr=0": "a number above 0", "max_steps=1.5": "a whole number",
    "max_steps=0": "at least 1", "global_batch=-8": "at least 1", "micro_batch=two": "or null",
    "max_micro_pixels=0": "at least 1", "data.order=sorted": "shuffled, streamed",
    "data.lanes=0": "at least 1", "data.max_bad_fraction=2": "from 0 to 1",
    "seed=-1": "at least 0", "seed=true": "a whole number", "ema_decay=1": "between 0 and 1",
    "ema_decay=2.0": "between 0 and 1", "drop_rate=1.5": "from 0 to 1", "size=4": "at least 8",
    "resume=maybe": "auto, never", "precision=16": "32-true", "accelerator=tpu": "cpu, gpu",
    "strategy=fsdq": "auto, ddp, fsdp", "devices=two": "a whole number", "run=[a]": "text",
    "latent_scale=none": "per_channel, scalar", "stop_signals=[SIGKILL]": "SIGTERM, SIGUSR1",
    "stop_signals=SIGTERM": "a list of signals", "max_time=3600": "in quotes",
    "max_time=90:00": "HH:MM:SS",
}  # fmt: skip


@pytest.mark.parametrize("word", WRONG)
def test_a_value_that_does_not_fit_names_what_does(word):
    key = word.partition("=")[0]
    message = refused("train", *DIFFUSION, word)
    assert message.startswith(f"{key}=") and "does not fit" in message and WRONG[word] in message


@pytest.mark.parametrize("word", ["flip=perhaps", "perceptual=vgg", "disc_lr=0", "learn_logvar=1"])
def test_a_value_of_the_autoencoder_that_does_not_fit(word):
    assert "does not fit" in refused("train", *AUTOENCODER, word)


@pytest.mark.parametrize(
    "command, word, wanted",
    [
        ("prepare", "data.size_px=abc", "ShapesSource: it must be a whole number"),
        ("train", "backbone.channels=64", "UNet: it must be a list, each a whole number"),
        ("train", "backbone.channels=[a,b]", "a list, each a whole number"),
        ("train", "backbone.groups=4.5", "a whole number"),
        ("train", "backbone.pooling_heads=few", "a whole number of at least 1 or null"),
        ("train", "backbone.linear_projection=1", "true or false"),
        ("train", "schedule.num_steps=[10]", "a whole number"),
        ("sample", "sampler.eta=big", "ddim: it must be a number"),
        ("train", "preview.num=-1", "a whole number of at least 0"),
        ("train", "preview.prompts=word", "a list of texts"),
        ("train", "data.workers=many", "a whole number of at least 0"),
    ],
)
def test_a_part_says_what_its_settings_may_be(command, word, wanted):
    words = {"train": DIFFUSION, "prepare": ("data=shapes", "out=x"),
             "sample": ("model=m", "sampler=ddim", "prompt=x")}[command]  # fmt: skip
    message = refused(command, *words, word)
    assert message.startswith(word.partition("=")[0]) and wanted in message


def test_a_constructor_that_cannot_be_called_is_no_traceback(capsys):
    for word in ("backbone.channels=64", "backbone.groups=5", "backbone.channels=[a,b]"):
        assert main(["check", "experiment=demo_diffusion", word]) == 2, word
        said = capsys.readouterr().err
        assert said.startswith("ldm: ") and len(said.splitlines()) <= 2


@pytest.mark.parametrize(
    "words, message",
    [
        (["experiment=demo_difusion"], "experiment=demo_difusion.*Did you mean 'demo_diffusion'"),
        ([*DIFFUSION, "backbone=unet_dmo"], "backbone=unet_dmo.*'unet_demo'"),
        ([*DIFFUSION, "stage=diffusoin"], "stage=diffusoin.*'diffusion'"),
        ([*DIFFUSION, "bakbone=unet_demo"], "'bakbone'.*'backbone'"),
        ([*DIFFUSION, "lr"], "'lr' is no setting; settings are written key=value"),
        ([*DIFFUSION, "--lr=1"], "option '--lr=1' is unknown"),
        ([*DIFFUSION, "lr=1e-3,2e-3"], "lr has several values: `ldm train -m"),
        ([], "needs experiment=NAME .known: .*demo_diffusion"),
        (["experiment=demo_diffusion"], "needs data.root="),
    ],
)
def test_unknown_names_and_forms(words, message):
    found = refused("train", *words)
    assert re.search(message, found), found


def test_other_commands_refuse_their_mistakes():
    assert "data=NAME" in refused("prepare", "out=x")
    assert "'data.sizepx'" in refused("prepare", "data=shapes", "out=x", "data.sizepx=3")
    assert "sampler=ddmi" in refused("sample", "model=m", "sampler=ddmi")
    assert "'stpes'" in refused("sample", "model=m", "stpes=3")
    for choice in ("promt_accuracy", "[reconstruction,promt_accuracy]"):
        message = refused("evaluate", "model=m", "data.root=s", f"metrics={choice}")
        assert "metrics=promt_accuracy" in message and "'prompt_accuracy'" in message
    assert "autoencoder_run" in refused("cache", "text_run=t", "data.root=s", "out=o")


@pytest.mark.parametrize(
    "words, message",
    [
        ((*AUTOENCODER, "loss.gan_start=10"), "gan_start=10 lies before loss.disc_start"),
        ((*AUTOENCODER, "size=8", "discriminator.num_layers=3"), "too small for the discriminator"),
        ((*DIFFUSION, "backbone.context_dim=null"), "transformers need a context"),
        ((*DIFFUSION, "schedule=cosine"), "prediction=epsilon says next to nothing"),
        ((*DIFFUSION, "max_micro_pixels=1023"), "1,023 is less than one picture of 32x32 px"),
        ((*DIFFUSION, "data.order=streamed"), "data.order=streamed is for image shards"),
    ],
)
def test_what_would_fail_late_is_found_by_the_check(words, message, capsys):
    assert main(["check", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_global_batch_must_divide(capsys):
    for words in (["global_batch=10", "micro_batch=4"], ["global_batch=9", "devices=2"]):
        assert main(["check", "experiment=demo_diffusion", *words]) == 2
        assert "ldm: global_batch" in capsys.readouterr().err


HOSTILE = {
    "another library": "backbone: {_target_: os.getenv, key: HOME}",
    "in a list": "backbone: {channels: [{_target_: os.getenv, key: HOME}]}",
    "a logger of another library": "logger: {x: {_target_: pytorch_lightning.loggers.CSVLogger}}",
    "by attributes": "logger: {x: {_target_: ldm.callbacks.loggers.wandb.os.getenv}}",
    "by our attributes": "backbone: {_target_: ldm.manifest.os.getenv, key: HOME}",
    "by interpolation": "backbone: ${oc.create:{_target_:os.getenv,key:HOME}}",
    "another function of ours": "backbone: {_target_: ldm.manifest.write_json, path: x, value: 1}",
    "imported by a part": "backbone: {_target_: ldm.text.clip.write_json, path: x, value: 1}",
    "of the same beginning": "backbone: {_target_: ldmx.anything}",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_target_outside_the_allow_list_is_refused(how, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(os, "getenv", lambda *words: called.append(words))
    folder = user_configs(tmp_path, experiment(HOSTILE[how]))
    message = refused("train", "experiment=mine", "data.root=DATA", config_dir=folder)
    assert "_target_" in message and (
        "is not allowed" in message or "does not exist" in message or "does not fit" in message
    )
    assert not called


def test_a_target_on_the_command_line_is_refused_too():
    assert "is not allowed" in refused("train", *DIFFUSION, "backbone._target_=os.system")
    assert "does not exist" in refused("train", *DIFFUSION, "backbone._target_=ldm.nn.nothing.Here")


PROMPTS = [
    "a, b", "[x, y]", "{a: 1}", "it's \"quoted\"", "x=1, y=2", "${x}", "${oc.env:HOME}", "\\${x}",
    "\\\\${x}", "${", "$", "a\\", "null", "true", "1", " lead and trail ", "", "-m", "a\nb", "é ☃",
]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_are_literal(prompt):
    config = compose("sample", ["model=m", f"prompt={prompt}", f"negative={prompt}"])
    assert config.prompt == prompt and config.negative == prompt


@pytest.mark.parametrize("key", ["image", "mask", "like", "prompt_to"])
def test_what_may_be_none_is_unset_by_nothing_and_by_null(key):
    for value in ("", "null"):
        assert compose("sample", ["model=m", "prompt=x", f"{key}={value}"])[key] is None
    if key != "like":
        for value in ("./null", "Null", "none", '"null"', " "):
            assert compose("sample", ["model=m", "prompt=x", f"{key}={value}"])[key] == value


@pytest.mark.parametrize("key", ["prompt", "prompt_to", "negative", "image", "model", "out"])
def test_bytes_that_are_no_text_are_refused(key):
    word = f"{key}={os.fsdecode(b'caf' + bytes([0xE9]))}"
    message = refused("sample", "model=m", "prompt=x", word)
    assert message.startswith(rf"{key}=caf\udce9 is not valid UTF-8") and message.encode()


@settings(max_examples=15)
@given(st.text(alphabet="ab$\\{}[](),='\"%: \n", max_size=12))
def test_any_prompt_is_literal(prompt):
    assert compose("sample", ["model=m", f"prompt={prompt}"]).prompt == prompt


@pytest.mark.parametrize("path", ["sweeps/lr=1e-3,seed=2", "it's/a=b", "'quoted=1'", "plain"])
def test_paths_may_hold_equals_signs(path):
    config = compose("sample", [f"model={path}", "prompt=x"])
    assert config.model == path.strip("'")


@pytest.mark.parametrize("command", ["sample", "evaluate", "train", "cache", "export", "import"])
def test_a_setting_cannot_be_deleted(command):
    for key, annotation in settings_of_command(command).items():
        message = refused(command, f"~{key}")
        assert f"~{key}: `ldm {command}` needs this setting" in message
        for name in fields_of(annotation) if is_described(annotation) else ():
            assert "needs this setting" in refused(command, f"~{key}.{name}")


def test_prompts_where_there_are_none():
    assert "prompt= is no setting of `ldm cache`" in refused("cache", "prompt=x")
