"""The reference: pages made at each build from the commands, the configurations and their comments.

Nothing in them is written twice, so nothing in them can be out of date.
"""

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm.apps.schema.describe import Described

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
_NO_GROUPS = ("experiment", "recipe", "stage", "preparing")  # they have places of their own


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
    from ldm.apps.help_files import header
    from ldm.apps.schema.commands import STAGES
    from ldm.apps.schema.describe import settings_of

    lines = [f"# ldm {command}\n", f"{_text(purpose[:1].upper() + purpose[1:])}.\n", "```text"]
    lines += [*(f"ldm {command} {example}".rstrip() for example in examples), "```\n"]
    file = CONFIGS / f"{command}.yaml"
    if file.is_file():
        common = settings_of(command)
        lines += ["## Settings\n", _settings(common), *_remarks(file)]
        for stage in STAGES if command == "train" else ():
            own = [one for one in settings_of(command, stage) if one not in common]
            head = _text(header(CONFIGS / "stage" / f"{stage}.yaml"))
            lines += [f"## stage={stage}\n", f"{head}\n", _settings(own)]
    if command == "prepare":
        lines += ["## Settings of every source\n", "Under `data.`.\n", _pictures()]
        lines += ["What they mean for a picture: [Data](../../data.md).\n"]
    if command == "run":
        lines += ["The settings are the recipe's own: [Recipes](../recipes.md).\n"]
    return "\n".join(lines)


def _pictures() -> str:
    from ldm.apps.yaml_lines import read_yaml_lines

    found = read_yaml_lines(CONFIGS / "preparing" / "pictures.yaml")
    commented = [line for line in found.lines if line.comment]
    rows = [[f"`{one.key[0]}`", _code(one.text), _text(one.comment)] for one in commented]
    return _table(["setting", "usually", "what it is"], rows)


def _remarks(file: Path) -> list[str]:
    """What it says between its settings, from the first column on."""
    after = itertools.dropwhile(lambda line: line.startswith("#"), _lines(file))
    return [f"{_text(line[1:].strip())}\n" for line in after if line.startswith("#")]


def _lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("# @package")]


def _group(group: str) -> str:
    from ldm.apps.help_files import header

    lines = [f"# {group}\n", f"Typed as `{group}=NAME`; one of {', '.join(_names(group))}."]
    users = list(_users(group))
    lines += [f"Part of {', '.join(users)}.\n" if users else "\n"]
    for name in _names(group):
        file = CONFIGS / group / f"{name}.yaml"
        lines += [f"## {name}\n", f"{_text(header(file).replace(chr(10), ' '))}\n"]
        if body := [*itertools.dropwhile(lambda line: line.startswith("#"), _lines(file))]:
            lines += [f'```yaml title="configs/{group}/{name}.yaml"', *body, "```\n"]
    return "\n".join(lines)


def _users(group: str) -> Iterator[str]:
    """The commands and stages that have a group, each with the name that it usually has."""
    from ldm.apps.yaml_lines import read_yaml_lines

    for file in [*sorted(CONFIGS.glob("*.yaml")), *sorted((CONFIGS / "stage").glob("*.yaml"))]:
        for entry in read_yaml_lines(file).defaults:
            if entry.group.lstrip("/") == group:
                user = f"stage={file.stem}" if file.parent.name == "stage" else f"ldm {file.stem}"
                usual = ", ".join(entry.names) or "none"
                yield f"`{user}`" + ("" if usual == "???" else f" (usually `{usual}`)")


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


def _settings(settings: Sequence["Described"]) -> str:
    rows = [
        [_key(one.key), _code(one.default), _text(one.comment), _text(one.wanted)]
        for one in settings
        if one.key.rpartition(".")[2] not in ("_target_", "_partial_", *_NO_GROUPS)
    ]
    return _table(["setting", "usually", "what it is", "may be"], rows)


def _key(key: str) -> str:
    return f"[`{key}`](../groups/{key}.md)" if key in groups() else f"`{key}`"


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
