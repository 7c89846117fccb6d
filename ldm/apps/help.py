"""`ldm COMMAND --help`: its settings with their comments, straight from the configs."""

from collections.abc import Sequence
from pathlib import Path

from ldm.apps.config_files import config_root


def command_help(command: str, purpose: str, examples: Sequence[str]) -> str:
    """Purpose, examples, the commented settings and the groups with their choices."""
    root = config_root()
    lines = [f"ldm {command}: {purpose}", "", "examples:"]
    lines += [f"  ldm {command} {example}".rstrip() for example in examples]
    file = root / f"{command}.yaml"
    if file.is_file():
        lines += ["", "settings (key=value):", *(f"  {line}" for line in _body(file))]
    if command == "prepare":
        lines += ["", "settings of every source (data.key=value):"]
        lines += [f"  {line}" for line in _body(root / "preparing" / "pictures.yaml")]
        for source in sorted((root / "data").glob("*.yaml")):
            lines += ["", f"data={source.stem}, beside or instead of these:"]
            lines += [
                f"  {line}" for line in source.read_text().splitlines() if line[:1] not in " d_"
            ]
    if command in ("train", "check", "config"):
        lines += ["", "groups (group=name):"]
        for group in sorted(p for p in root.iterdir() if p.is_dir()):
            if group.name not in ("recipe", "metrics", "data", "preparing"):
                names = ", ".join(sorted(p.stem for p in group.glob("*.yaml")))
                lines.append(f"  {group.name:14} {names}")
    return "\n".join(lines)


def _body(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]
