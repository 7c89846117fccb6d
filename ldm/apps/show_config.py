"""`ldm config`: what a command would run with, each line with where its value comes from."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.apps.compose import draft
from ldm.apps.config_files import config_roots
from ldm.apps.errors import UserError, suggestion
from ldm.apps.hydra_compose import keys_in
from ldm.apps.origins import Origin, Origins, origins_of
from ldm.apps.record.file import Typed
from ldm.apps.taken_up import taken_up

_WIDEST = 56  # the column of origins lies no further right; longer lines have theirs behind them


class Row(NamedTuple):
    """A line of the tree: YAML, its dotted key, and what is said of it."""

    text: str
    key: str
    origin: str


def show_config(command: str, words: Sequence[str], *, config_dir: str | None) -> int:
    """Print the configuration that ``words`` make, or those parts of it that words without = name.

    What is still to be given is ``???``. Without the origins, which are comments, it is YAML. 0;
    UserError for what `ldm check` would refuse of single settings.
    """
    asked = [word for word in words if "=" not in word and not word.startswith(("-", "~"))]
    given: Sequence[str] = [word for word in words if word not in asked]
    if command == "train":
        given, config_dir = taken_up(Typed(given, config_dir))
    found = draft(command, given, config_dir=config_dir)
    origins = origins_of(command, found.overrides, config_roots(config_dir))
    for key, value in found.literal.items():
        origins.say((key,), Origin(None, 0, f"{key}={value or ''}"), is_group=False)
    config = found.with_texts()
    if "autoencoder" in config:
        from ldm.apps.regularizer_choice import choose_regularizer

        choose_regularizer(config, found.overrides)
    known = [*keys_in(config)]
    for key in asked:
        if key not in known:
            raise UserError(f"{key!r} is not in this configuration. {suggestion(key, known)}")
    rows = [row for row in _rows(config, origins) if _is_asked(row.key, asked)]
    column = min(max(len(row.text) for row in rows), _WIDEST) + 2
    for row in rows:
        _print(row, column)
    return 0


def _is_asked(key: str, asked: Sequence[str]) -> bool:
    """Whether a key is, lies in, or leads to one of those asked for."""
    return not asked or any(
        f"{key}.".startswith(f"{each}.") or f"{each}.".startswith(f"{key}.") for each in asked
    )


def _rows(node: DictConfig, origins: Origins, above: str = "", indent: str = "") -> Iterator[Row]:
    for name in map(str, node):
        key = f"{above}{name}"
        child = node._get_node(name)
        value = _value(node, name)
        if isinstance(value, DictConfig) and value:
            yield Row(f"{indent}{name}:", key, _choice(origins, key))
            yield from _rows(value, origins, f"{key}.", f"{indent}  ")
        elif isinstance(value, ListConfig) and any(isinstance(v, DictConfig) for v in value):
            yield Row(f"{indent}{name}:", key, _origin(origins, key, child))
            for i, item in enumerate(value):
                rows = [*_rows(item, origins, f"{key}.{i}.", f"{indent}    ")]
                first = rows[0]._replace(text=f"{indent}  - {rows[0].text.strip()}")
                yield from (first, *rows[1:])
        else:
            shown = "???" if value is None and OmegaConf.is_missing(node, name) else _yaml(value)
            chosen = origins.choice(key)
            said = str(chosen[1]) if chosen else _origin(origins, key, child)
            yield Row(f"{indent}{name}: {shown}", key, said)


def _value(node: DictConfig, name: str) -> Any:
    """A value, its interpolation as written where that leads to what is missing; None if it is."""
    if OmegaConf.is_missing(node, name):
        return None
    try:
        return node[name]
    except OmegaConfBaseException:
        return node._get_node(name)._value()  # type: ignore[union-attr]


def _choice(origins: Origins, key: str) -> str:
    """Which configuration a group is, and who chose it."""
    name, origin = origins.choice(key) or ("", None)
    if origin is None or origin.file is None:
        return "" if origin is None else str(origin)
    return f"{name}, {origin}"


def _origin(origins: Origins, key: str, node: Any) -> str:
    said = origins.of(key)
    if said is None:
        return ""
    interpolated = node is not None and node._is_interpolation() and said.file is not None
    return f"{said}  {said.text}" if interpolated else str(said)


def _yaml(value: Any) -> str:
    """A value on one line."""
    plain = value
    if OmegaConf.is_config(value):
        try:
            plain = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException:  # of what is still missing
            plain = OmegaConf.to_container(value)
    text = yaml.safe_dump(plain, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _print(row: Row, column: int) -> None:
    """A line; the origin as a comment, which a terminal shows in another colour."""
    if not row.origin:
        print(row.text)
        return
    comment = f"# {row.origin}"
    if sys.stdout.isatty():
        comment = f"\x1b[36m{comment}\x1b[0m"
    print(f"{row.text:{column}}{'' if len(row.text) < column else '  '}{comment}")
