"""From command-line words to one resolved configuration, with Hydra underneath."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.apps.errors import UserError, suggestion
from ldm.apps.schema import check_schema
from ldm.apps.settings import PARTS, SETTINGS

OPTIONAL = ("image", "mask", "like", "prompt_to")  # nothing, or a bare null, is none of them
LITERAL = ("prompt", "negative", *OPTIONAL)


def config_root() -> Path:
    """The shipped configs: at the top of a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "configs"
    return checkout if (checkout / "train.yaml").is_file() else package / "configs"


def compose(command: str, arguments: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """The resolved configuration of a command; UserError for anything that does not fit.

    Prompts and names of pictures are taken literally (``LITERAL``), and some of them can be unset
    (``OPTIONAL``); all else is Hydra's grammar. ``like=`` brings the settings of a picture, but for
    those given here. ``config_dir`` adds a user's own groups and experiments.
    """
    literal, overrides = _split_literal(arguments)
    like = literal.get("like")
    if command == "sample" and like is not None:
        from ldm.apps.like import recalled

        literal, overrides = recalled(like, literal, overrides)
    _require_text([*(f"{key}={value}" for key, value in literal.items()), *overrides])
    _require_kept(command, overrides)
    _check_experiment(overrides, config_dir)
    config = _compose(command, overrides, config_dir)
    OmegaConf.set_struct(config, False)
    known = [*config]  # `in config` would overlook what is still missing
    for key, value in literal.items():
        if key not in known:
            raise UserError(f"{key}= is no setting of `ldm {command}`.")
        if value == "???":  # the one text that OmegaConf cannot hold: its mark for missing values
            raise UserError(f"{key}=??? cannot be taken literally; add a word.")
        # The text itself comes last, where nothing reads it as grammar.
        config[key] = None if value is None else ""
    check_schema(command, config)
    missing = sorted(key for key in _keys(config) if _is_missing(config, key))
    if missing:
        raise UserError(_missing(command, missing))
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    if "autoencoder" in config:
        from ldm.apps.rules import choose_regularizer

        choose_regularizer(config, overrides)
    check_schema(command, config)  # again, for what interpolations brought in
    for key, value in literal.items():
        if value is not None:
            config[key] = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    OmegaConf.set_struct(config, True)
    return config


def _split_literal(arguments: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    literal: dict[str, str | None] = {}
    overrides = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in LITERAL:
            literal[key] = None if key in OPTIONAL and value in ("", "null") else value
        elif argument.startswith("-"):
            raise UserError(
                f"option {argument!r} is unknown; settings are written key=value, and the options "
                "are --help, --config-dir DIR and, for train and evaluate, -m."
            )
        elif not equals and not argument.startswith("~"):
            raise UserError(f"{argument!r} is no setting; settings are written key=value.")
        else:
            overrides.append(quoted(argument))
    return literal, overrides


def quoted(argument: str) -> str:
    """The argument with its value in quotes where that holds an equals sign, as paths may.

    Hydra's grammar knows none outside of quotes, brackets and functions.
    """
    key, _, value = argument.partition("=")
    if "=" in value and not re.match(r"""['"\[{]|\w+\(""", value):
        return f"{key}='" + value.replace("'", "\\'") + "'"
    return argument


def _require_text(words: Iterable[str]) -> None:
    """UserError for bytes that are no text, which could not be printed or written later."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode(errors="backslashreplace").decode()
            raise UserError(
                f"{shown} is not valid UTF-8. Type it in a terminal that is set to UTF-8; rename a "
                "file that has such a name."
            ) from error


def _require_kept(command: str, overrides: Iterable[str]) -> None:
    """UserError where a word ~KEY would delete a setting of the command: all are needed."""
    for override in overrides:
        key = override.partition("=")[0].removeprefix("~")
        parent, _, name = key.rpartition(".")
        settings = PARTS.get((command, parent), {}) if parent else SETTINGS.get(command, {})
        if override.startswith("~") and name in settings:
            raise UserError(
                f"~{key}: `ldm {command}` needs this setting. Leave the word out for its usual "
                f"value, or give another: {key}=..."
            )


def _check_experiment(overrides: list[str], config_dir: str | None) -> None:
    """UserError for an experiment that does not exist: Hydra passes over optional groups."""
    roots = [config_root(), *([Path(config_dir)] if config_dir else [])]
    known = [path.stem for root in roots for path in (root / "experiment").glob("*.yaml")]
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "experiment" and name not in known and "," not in name:
            raise UserError(
                f"experiment={name}: there is no such configuration. {suggestion(name, known)}"
            )


def _compose(command: str, overrides: list[str], config_dir: str | None) -> DictConfig:
    extra = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: there is no such directory.")
        extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_root()), version_base="1.3"):
            return hydra_compose(command, overrides=[*overrides, *extra])
    except MissingConfigException as error:
        raise UserError(_missing_config(command, error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(command, str(error), overrides, config_dir)) from error


def _missing_config(command: str, error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        first = str(error).splitlines()[0]
        return f"{first} See `ldm {command} --help`."
    known = error.options or [path.stem for path in (config_root() / group).glob("*.yaml")]
    return f"{group}={name}: there is no such configuration. {suggestion(name, known)}"


def _explain(command: str, text: str, overrides: list[str], config_dir: str | None) -> str:
    """Hydra's message in the user's words, with the closest known key where one is unknown."""
    unknown = re.search(r"Could not override '([^']+)'", text)
    group = re.search(r"You must specify '([^']+)'", text)
    if unknown:
        key = unknown[1].split("@")[0]
        without = [o for o in overrides if o.partition("=")[0].lstrip("+~") != unknown[1]]
        try:
            left_out = len(without) < len(overrides)
            known = list(_keys(_compose(command, without, config_dir))) if left_out else []
        except UserError:
            known = []
        if key in known:
            return (
                f"the value of {key!r} has entries that the configuration does not have. Add each "
                f"by itself, +{key}.NAME=VALUE, or write a file of your own for --config-dir."
            )
        groups = [path.name for path in config_root().iterdir() if path.is_dir()]
        if key in groups:
            return (
                f"{key!r} has no place in this `ldm {command}`: its stage does without. Leave it "
                "out, or choose another stage= or experiment=."
            )
        known += groups
        return f"{key!r} is not a setting of this `ldm {command}`. {suggestion(key, known)}"
    if group:
        options = sorted(p.stem for p in (config_root() / group[1]).glob("*.yaml"))
        return f"`ldm {command}` needs {group[1]}=NAME. Known: {', '.join(options)}."
    return re.sub(r"\s*\n\s*", " ", text.split("Set the environment")[0]).strip()


def _keys(config: Any, prefix: str = "") -> Iterable[str]:
    for key in config:
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_dict(config._get_node(key)):
            yield from _keys(config._get_node(key), f"{prefix}{key}.")


def _is_missing(config: DictConfig, path: str) -> bool:
    """Whether the value at a dotted path is literally left open (???) in the configs."""
    *parents, name = path.split(".")
    node: Any = config
    for parent in parents:
        node = node._get_node(parent)
    return OmegaConf.is_missing(node, name) and not node._get_node(name)._is_interpolation()


def _missing(command: str, keys: list[str]) -> str:
    wanted = " ".join(f"{key}=..." for key in keys)
    if command == "train" and "max_steps" in keys:
        names = sorted(p.stem for p in (config_root() / "experiment").glob("*.yaml"))
        return (
            f"`ldm train` needs experiment=NAME (known: {', '.join(names)}) or these settings: "
            f"{wanted}"
        )
    return f"`ldm {command}` needs {wanted}"
