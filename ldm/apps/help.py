"""`ldm COMMAND --help`: purpose, examples, and settings with their comments, from the configs."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from ldm.apps.config_files import choices, config_root, config_roots, find_config
from ldm.apps.errors import UserError, suggestion
from ldm.apps.help_files import first_sentence, header, headings
from ldm.apps.schema.commands import COMMANDS
from ldm.apps.schema.describe import Described, settings_of, settings_of_choice

_WIDTH, _LEFT = 110, 30
GROUPS = {  # what can be chosen by name, in the order in which people ask
    "experiment": "a whole configuration: begin with one",
    "stage": "what is trained",
    "trainer": "where it runs",
    "backbone": "the denoiser's network",
    "autoencoder": "the network between pictures and latents",
    "regularizer": "what keeps latents small, in place of the autoencoder's own",
    "text_encoder": "the text towers",
    "discriminator": "the autoencoder's opponent",
    "optimizer": "how gradients become steps",
    "learning_rate": "how the learning rate goes over the steps",
    "schedule": "how much noise there is at each training time",
    "prediction": "what the denoiser predicts",
    "weighting": "which noise levels count how much",
    "sampler": "how pictures are drawn",
    "metrics": "what is measured; several as metrics=[a,b]",
    "logger": "what is written beside metrics.jsonl",
    "data": "where pictures come from",
    "recipe": "a whole road",
    "sweep": "how a sweep goes through its settings",
    "launcher": "who runs a sweep's jobs",
}
_CHOOSES = {  # which of them a command takes
    "train": [name for name in GROUPS if name not in ("data", "recipe", "sweep", "launcher")],
    "evaluate": ["metrics", "sampler"],
    "sample": ["sampler"],
    "prepare": ["data"],
    "run": ["recipe"],
    "import": ["prediction"],
    "logs": ["logger"],
    "sweep": ["sweep", "launcher"],
}
# What a setting may be where its name and its default say it.
_PLAIN = re.compile(
    r"(a list, each )?(|text|true or false|a (whole )?number( of at least [01])?|a list of texts"
    r"|a table of names and values|a group of settings( with a _target_)?)( or null)?"
)
_READ = {
    "prepare": "docs/data.md", "cache": "docs/data.md", "check": "README.md",
    "train": "README.md, docs/clusters.md (several machines)", "evaluate": "docs/evaluation.md",
    "weights": "docs/evaluation.md", "sweep": "docs/sweeps.md", "logs": "docs/logging.md",
    "plan": "docs/planning.md", "materials": "docs/record.md",
}  # fmt: skip


def command_help(
    command: str, purpose: str, examples: Sequence[str], config_dir: str | None = None
) -> str:
    """All that a command takes, on a page."""
    settings = settings_of(command) if command in COMMANDS else []
    groups = _CHOOSES.get(command, [])
    lines = [f"ldm {command}: {purpose}", "", f"usage: {_usage(command)}"]
    lines += ["", "examples:", *(f"  ldm {command} {example}".rstrip() for example in examples)]
    plain = [setting for setting in settings if setting.key not in groups]
    if plain:
        lines += ["", "settings, with their defaults (... is for you, or an experiment, to give):"]
        lines += _listed([_with_range(setting) for setting in plain], _headings(plain))
    if command in ("check", "config"):
        lines += [
            "",
            "COMMAND is any other one, or train if left out; the rest are its settings:",
        ]
        lines += ["  ldm train --help, ldm sample --help, ..."]
    if groups:
        lines += ["", f"groups (group=name; `ldm {command} --help GROUP` says what each is):"]
        usual = {setting.key: setting.default for setting in settings}
        for name in groups:
            default = usual.get(name, "null")
            more = f" (usually {default})" if default not in ("null", "???") else ""
            names = ", ".join(choices(name, config_roots(config_dir)))
            lines += _entry(name, f"{GROUPS[name]}{more}: {names}")
    if command in _READ:
        lines += ["", f"more: {_READ[command]}"]
    return "\n".join(lines)


def detailed_help(command: str, name: str, config_dir: str | None = None) -> str:
    """One group with its choices, one choice (GROUP=NAME) with its settings, or one setting.

    UserError for what is none of them.
    """
    of = "train" if command in ("check", "config") else command
    roots, groups = config_roots(config_dir), _CHOOSES.get(of, [])
    group, equals, choice = name.partition("=")
    if group in groups:
        names = choices(group, roots)
        if equals and choice not in names:
            raise UserError(f"{name}: there is no such choice. {suggestion(choice, names)}")
        if equals:
            return _choice(group, choice, find_config(f"{group}/{choice}", roots))
        lines = [f"{group}=NAME: {GROUPS[group]}", ""]
        for each in names:
            file = find_config(f"{group}/{each}", roots)
            lines += _entry(each, "" if file is None else first_sentence(file))
        return "\n".join([*lines, "", f"settings of one: ldm {command} --help {group}=NAME"])
    settings = settings_of(of) if of in COMMANDS else []
    for setting in settings:
        if setting.key == group:
            allowed = [f"  it must be {setting.wanted}"] if setting.wanted else []
            return "\n".join([*_listed([setting], {}), *allowed])
    known = [*groups, *(setting.key for setting in settings)]
    raise UserError(
        f"`ldm {command}` has no group or setting {group!r}. {suggestion(group, known)}"
    )


def _choice(group: str, name: str, file: Path | None) -> str:
    """What one choice of a group is, and brings."""
    assert file is not None
    lines = [f"{group}={name}: {header(file)}", ""]
    if file.is_relative_to(config_root()):
        lines += _listed([_with_range(each) for each in settings_of_choice(group, name)], {})
    else:  # a user's own
        lines += file.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines).rstrip()


def _usage(command: str) -> str:
    if command == "check":
        return "ldm check [COMMAND] key=value ..., or ldm check data.root=DIR [decode=true]"
    file = config_root() / f"{command}.yaml"
    said = header(file) if file.is_file() else ""
    given = re.search(rf"`(ldm {command}[^`]*)`", said)
    return given[1] if given else f"ldm {command} key=value ..."


def _headings(settings: Sequence[Described]) -> dict[str, str]:
    """The heading that each setting stands under, by its key."""
    root, found = config_root(), {}
    files = {setting.file: headings(setting.file) for setting in settings}
    for setting in settings:
        group = setting.file.parent
        by_line = files[setting.file][setting.number]
        found[setting.key] = by_line if group == root else f"Of {group.name}="
    return found


def _listed(settings: Sequence[Described], headed: dict[str, str]) -> Iterator[str]:
    """A line or more for each setting, with a heading above the first of several."""
    heading = ""
    for setting in settings:
        if headed.get(setting.key, "") != heading:
            heading = headed[setting.key]
            yield from ("", f"  {heading}" if heading else "")
        value = "..." if setting.default == "???" else _typed(setting.default)
        yield from _entry(f"{setting.key}={value}", setting.comment)


def _with_range(setting: Described) -> Described:
    """The setting with what it may be, where that is not said and does not go without saying."""
    if not setting.comment:
        return setting._replace(comment=setting.wanted)
    names = re.fullmatch(r"one of (.*?)( or null)?", setting.wanted)
    said = names is not None and all(name in setting.comment for name in names[1].split(", "))
    if said or _PLAIN.fullmatch(setting.wanted):
        return setting
    wanted = setting.wanted
    if "null" in f"{setting.default} {setting.comment}":
        wanted = wanted.removesuffix(" or null")
    return setting._replace(comment=f"{setting.comment} ({wanted})")


def _typed(value: str) -> str:
    """A default as one would type it."""
    environment = re.fullmatch(r"\$\{oc\.env:(\w+),(.*)\}", value)
    if environment:
        return f"${environment[1]} or {environment[2]}"
    return "" if value == '""' else value


def _entry(name: str, text: str) -> Iterator[str]:
    """A name and what is said of it, beside it where there is room."""
    width = min(_WIDTH, max(60, shutil.get_terminal_size((_WIDTH, 24)).columns)) - _LEFT
    wrapped = textwrap.wrap(text, width)
    if len(name) > _LEFT - 4 or not wrapped:
        yield f"  {name}"
    else:
        yield f"  {name:{_LEFT - 2}}{wrapped.pop(0)}"
    yield from (f"{'':{_LEFT}}{line}" for line in wrapped)
