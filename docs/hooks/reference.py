"""The reference: pages made at each build from the commands, the configurations and their comments.

Nothing in them is written twice, so nothing in them can be out of date.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docs.hooks.commented_yaml import Commented, commented

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
_NO_GROUPS = ("experiment", "recipe", "stage", "preparing")  # they have places of their own


class Setting(NamedTuple):
    """How one setting is typed, its usual value, what it may be, and what it is."""

    key: str
    default: str
    allowed: str
    meaning: str


def settings_of(command: str, file: Path) -> list[Setting]:
    """The settings that a configuration file gives to a command, each with what it may be."""
    return [
        Setting(line.key, line.value, allowed(command, line.key), line.comment)
        for line in commented(file.read_text()).settings
        if not line.key.endswith(("_target_", "_partial_"))
    ]


def allowed(command: str, key: str) -> str:
    """What the value of a setting may be, in words; "" where its part checks it."""
    from ldm.apps.settings import PARTS, SETTINGS

    parent, _, name = key.rpartition(".")
    rules = PARTS.get((command, parent), {}) if parent else SETTINGS.get(command, {})
    return rules[name][1] if name in rules else ""


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, f"reference/{path}", content=text))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """Every page of the reference as (path below reference/, Markdown)."""
    from ldm.apps.main import COMMANDS, EXAMPLES

    yield "index.md", _index(COMMANDS)
    for command, purpose in COMMANDS.items():
        yield f"commands/{command}.md", _command(command, purpose, EXAMPLES[command])
    for group in groups():
        yield f"groups/{group}.md", _group(group)
    yield (
        "experiments.md",
        _whole_files(
            "Experiments",
            "Whole configurations: `ldm train experiment=NAME`. Each head says the paper, the "
            "command, the hardware, and what was reached.",
            "experiment",
        ),
    )
    yield (
        "recipes.md",
        _whole_files(
            "Recipes",
            "Whole roads: `ldm run recipe=NAME`. Each is a list of commands, and any of them can "
            "be typed by itself.",
            "recipe",
        ),
    )
    yield "exit-codes.md", _exit_codes()


def groups() -> list[str]:
    """The groups of parts, by name."""
    folders = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())
    return [name for name in folders if name not in _NO_GROUPS]


def _index(commands: dict[str, str]) -> str:
    rows = [[f"[`ldm {name}`](commands/{name}.md)", _text(what)] for name, what in commands.items()]
    parts = [
        [f"[`{name}=`](groups/{name}.md)", _text(", ".join(_names(name)))] for name in groups()
    ]
    return (
        "# Reference\n\nEverything here is taken from the commands and configurations themselves "
        "when the handbook is built. In a terminal, `ldm COMMAND --help` says the same.\n\n"
        f"## Commands\n\n{_table(['command', 'what it does'], rows)}\n"
        "`python train.py` is `ldm train`, `python sample.py` is `ldm sample`.\n\n"
        "## Groups\n\nA group is one part with its choices: `backbone=unet_sd1`. What belongs to a "
        "part is set under it: `backbone.layers_per_level=3`.\n\n"
        f"{_table(['group', 'choices'], parts)}\n"
        "See also the [experiments](experiments.md), the [recipes](recipes.md), "
        "[files of a run](../files.md), [exit codes](exit-codes.md), and what each "
        "[metric](../evaluation.md#which-metric-for-what) says.\n"
    )


def _command(command: str, purpose: str, examples: list[str]) -> str:
    lines = [f"# ldm {command}\n", f"{_text(purpose[:1].upper() + purpose[1:])}.\n", "```text"]
    lines += [*(f"ldm {command} {example}".rstrip() for example in examples), "```\n"]
    file = CONFIGS / f"{command}.yaml"
    if file.is_file():
        whole = commented(file.read_text())
        lines += ["## Settings\n", _settings(settings_of(command, file)), *_remarks(whole)]
        lines += _groups_of(whole)
    if command == "train":
        for stage in sorted((CONFIGS / "stage").glob("*.yaml")):
            whole = commented(stage.read_text())
            lines += [f"## stage={stage.stem}\n", _text("\n".join(whole.head)) + "\n"]
            lines += [_settings(settings_of(command, stage)), *_groups_of(whole)]
    if command == "prepare":
        pictures = CONFIGS / "preparing" / "pictures.yaml"
        lines += ["## Settings of every source\n", "Under `data.`.\n"]
        lines += [_settings(settings_of(command, pictures))]
        lines += ["What they mean for a picture: [Data](../../data.md).\n"]
    if command == "run":
        lines += ["The settings are the recipe's own: [Recipes](../recipes.md).\n"]
    return "\n".join(lines)


def _groups_of(whole: Commented) -> list[str]:
    rows = [
        [f"[`{line.key}=`](../groups/{line.key}.md)", _code(line.value), _text(line.comment)]
        for line in whole.groups
        if (CONFIGS / line.key).is_dir() and line.key not in _NO_GROUPS
    ]
    if not rows:
        return []
    return ["Its groups:\n", _table(["group", "usually", ""], rows)]


def _remarks(whole: Commented) -> list[str]:
    return [f"{_text(remark)}\n" for remark in whole.remarks]


def _group(group: str) -> str:
    lines = [f"# {group}\n", f"Typed as `{group}=NAME`; one of {', '.join(_names(group))}."]
    users = []
    for file in [*sorted(CONFIGS.glob("*.yaml")), *sorted((CONFIGS / "stage").glob("*.yaml"))]:
        for line in commented(file.read_text()).groups:
            if line.key == group:
                is_stage = file.parent.name == "stage"
                user = f"`stage={file.stem}`" if is_stage else f"`ldm {file.stem}`"
                value = line.value.strip("[]") or "none"
                users.append(user + (f" (usually `{value}`)" if value != "???" else ""))
    lines += [f"Part of {', '.join(users)}.\n" if users else "\n"]
    for name in _names(group):
        text = (CONFIGS / group / f"{name}.yaml").read_text()
        whole = commented(text)
        lines += [f"## {name}\n", _text("\n".join(whole.head)) + "\n"]
        body = [
            line for line in text.splitlines() if line and not line.startswith(("# ", "defaults"))
        ]
        if body:
            lines += [f'```yaml title="configs/{group}/{name}.yaml"', *body, "```\n"]
    return "\n".join(lines)


def _whole_files(title: str, says: str, group: str) -> str:
    lines = [f"# {title}\n", f"{says}\n"]
    for name in _names(group):
        text = (CONFIGS / group / f"{name}.yaml").read_text().removeprefix("# @package _global_\n")
        lines += [f"## {name}\n", f'```yaml title="configs/{group}/{name}.yaml"', text, "```\n"]
    return "\n".join(lines)


def _exit_codes() -> str:
    text = (ROOT / "ldm" / "apps" / "exit_codes.py").read_text()
    rows = []
    for line in text.splitlines():
        name, equals, rest = line.partition(" = ")
        if equals:
            code, _, meaning = rest.partition("#")
            rows.append([code.strip(), f"`{name}`", _text(meaning.strip())])
    return (
        f"# Exit codes\n\n{ast.get_docstring(ast.parse(text))}\n\n"
        f"{_table(['code', 'name', 'means'], rows)}\n"
        "What a scheduler does with them: [Clusters](../clusters.md#stopping).\n"
    )


def _names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _settings(settings: list[Setting]) -> str:
    rows = [
        [f"`{one.key}`", _code(one.default), _text(one.meaning), _text(one.allowed)]
        for one in settings
        if one.default or one.meaning  # else it is only what others stand under
    ]
    return _table(["setting", "usually", "what it is", "may be"], rows)


def _code(value: str) -> str:
    return {"???": "*to be given*", "": ""}.get(value, f"`{value}`")


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """A table of cells in Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Plain text as Markdown: but for `code`, nothing in it is a mark."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"[<*_\[\]$]", lambda mark: f"&#{ord(mark[0])};", p) for p in parts[::2]]
    return "`".join(parts)
