"""`ldm COMMAND --help`: its settings with their comments, straight from the configs."""

from collections.abc import Sequence

from ldm.apps.compose import config_root


def command_help(command: str, purpose: str, examples: Sequence[str]) -> str:
    """Purpose, examples, the commented settings and the groups with their choices."""
    root = config_root()
    lines = [f"ldm {command}: {purpose}", "", "examples:"]
    lines += [f"  ldm {command} {example}".rstrip() for example in examples]
    file = root / f"{command}.yaml"
    if file.is_file():
        text = file.read_text().splitlines()
        body = [line for line in text if not line.startswith("#")]
        lines += ["", "settings (key=value):", *(f"  {line}" for line in body)]
    if command in ("train", "check"):
        lines += ["", "groups (group=name):"]
        for group in sorted(p for p in root.iterdir() if p.is_dir()):
            if group.name not in ("recipe", "metrics", "data"):
                names = ", ".join(sorted(p.stem for p in group.glob("*.yaml")))
                lines.append(f"  {group.name:14} {names}")
    return "\n".join(lines)
