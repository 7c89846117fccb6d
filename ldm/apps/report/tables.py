"""The numbers of the page: headline tiles, metrics with their protocol, time, provenance."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ldm.apps.report.numbers import duration, is_headline, metric, number, samples, title
from ldm.manifest import FILE_NAME, Manifest, read_manifest

_HEADLINES = (
    "prompt_accuracy", "digit_accuracy", "digit_spread", "FID", "psnr", "clip_score", "fd_",
    "kid", "precision", "recall", "inception_score", "rFID", "rfd_", "ssim", "lpips",
)  # fmt: skip
_MOST_TILES = 6
_ROAD = ("prepare", "train_text_encoder", "train_autoencoder", "cache", "train_diffusion", "sample")
_SUMMARY = ("sampler", "steps", "guidance", "weights", "seed")  # of a protocol, when it has them


def tiles(numbers: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """The first six numbers by importance, large, each with a small note."""

    found = [
        f'<div class="tile"><b>{escape(metric(name, numbers[name]))}</b>'
        f'<span>{escape(title(name))}</span><span class="note">{escape(notes.get(name, ""))}</span>'
        "</div>"
        for name in [n for n in sorted(numbers, key=rank) if is_headline(n)][:_MOST_TILES]
    ]
    return f'<div class="tiles">{"".join(found)}</div>' if found else ""


def rank(name: str) -> tuple[int, str]:
    """The place of a number among others: the most important ones first."""
    places = [
        i for i, start in enumerate(_HEADLINES) if name.removeprefix("val/").startswith(start)
    ]
    return (places[0] if places else len(_HEADLINES), name)


def metrics(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Every metric with its value, or why that counts for nothing; its protocol unfolds."""
    rows = []
    for name in sorted(records, key=rank):
        record = records[name]
        protocol = record.get("protocol", {})
        brief = [samples(protocol), *(f"{k} {protocol[k]}" for k in _SUMMARY if k in protocol)]
        summary = " · ".join(part for part in brief if part) or "protocol"
        why = why_not_valid(record)
        remark = f'<br><span class="invalid">not valid: {escape(why)}</span>' if why else ""
        rows.append(
            f"<tr><th>{escape(title(name))}<br><code class=muted>{escape(name)}</code>{remark}</th>"
            f'<td class="number">{struck(metric(name, record.get("value")), why)}</td>'
            f"<td><details><summary>{escape(summary)}</summary>{listed(protocol)}</details></td>"
            "</tr>"
        )
    return table("metrics", ("metric", "value", "protocol"), rows)


def why_not_valid(record: Mapping[str, Any]) -> str:
    """Why a number counts for nothing, "" where it counts."""
    return "" if record.get("valid", True) else str(record.get("why", "")) or "no reason is given"


def struck(text: str, why: str) -> str:
    """The text, struck through where there is a reason why it is not valid."""
    return f"<s>{escape(text)}</s>" if why else escape(text)


def times(timings: Mapping[str, float]) -> str:
    """Wall time of each step in the order of the road as horizontal bars, and the sum."""

    def place(name: str) -> int:  # a JSON file may have lost the order
        return _ROAD.index(name) if name in _ROAD else len(_ROAD)

    total, longest = sum(timings.values()), max(timings.values(), default=0.0)
    rows = [
        f'<tr><th>{escape(title(name))}</th><td class="bar"><i style="width:'
        f'{100 * seconds / (longest or 1):.1f}%"></i></td><td class="number">{duration(seconds)}'
        f'</td><td class="number muted">{100 * seconds / (total or 1):.0f} %</td></tr>'
        for name, seconds in sorted(timings.items(), key=lambda item: place(item[0]))
    ]
    foot = f'<tr><th>Total</th><td></td><td class="number">{duration(total)}</td><td></td></tr>'
    return f"<table><tbody>{''.join(rows)}</tbody><tfoot>{foot}</tfoot></table>"


def manifest_at(directory: Path) -> Manifest | None:
    """The manifest of a directory, None where there is none (yet)."""
    return read_manifest(directory) if (directory / FILE_NAME).is_file() else None


def provenance(manifests: Mapping[str, Manifest]) -> str:
    """What was made from what: each artefact's fingerprint and those of its inputs."""
    rows = []
    for name, manifest in manifests.items():
        inputs = "<br>".join(
            f"{escape(part)} <code class=muted>{escape(source['fingerprint'])}</code>"
            for part, source in manifest.inputs.items()
        )
        rows.append(
            f"<tr><th>{escape(name)}</th><td><code>{escape(manifest.fingerprint)}</code></td>"
            f"<td>{inputs or '–'}</td><td>{escape(_holds(manifest))}</td></tr>"
        )
    return table("chain", ("artefact", "fingerprint", "made from", "holds"), rows)


def materials(bill: Mapping[str, Any]) -> str:
    """The bill of materials: whether all is from scratch, weights of others, and data."""
    parts, data = bill.get("pretrained", []), bill.get("data", [])
    head = (
        "Trained from scratch: no pretrained weight in the way of training."
        if bill.get("from_scratch")
        else "Pretrained weights were in the way of training."
    )
    rows = [
        f"<tr><th>{escape(str(part['name']))}<br><code class=muted>"
        f"{escape(str(part.get('sha256') or part.get('fingerprint') or 'unknown')[:16])}</code>"
        f"</th><td>{escape(part['role'])}</td><td>{escape(part['licence'])}</td>"
        f"<td>{escape(part['trained_on'])}</td><td>{escape(', '.join(part['for']))}</td></tr>"
        for part in parts
    ]
    columns = ("of others", "role", "licence", "trained on", "for")
    tables = table("materials", columns, rows) if rows else ""
    rows = [
        f"<tr><th>{escape(entry['source'])}<br><code class=muted>{escape(entry['fingerprint'])}"
        f"</code></th><td class=number>{_count(entry['num_samples'])}</td>"
        f"<td class=number>{_count(entry['num_held_out'])}</td>"
        f"<td>{'<br>'.join(f'{n:,} {escape(name)}' for name, n in entry['licences'].items())}</td>"
        f"<td>{escape(', '.join(entry['for']))}</td></tr>"
        for entry in data
    ]
    columns = ("data", "pictures", "held out", "licences", "for")
    return f"<p>{head}</p>{tables}" + (table("materials", columns, rows) if rows else "")


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def table(kind: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    """A table with rows of ready markup, which is moved sideways where it is too wide."""
    head = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _holds(manifest: Manifest) -> str:
    facts = manifest.facts
    parts = []
    if "num_samples" in facts:
        parts.append(f"{facts['num_samples']:,} samples")
    if "shape" in facts:
        parts.append(f"{' × '.join(map(str, facts['shape']))} each")
    if "step" in facts:
        parts.append(f"step {facts['step']:,}")
    return ", ".join(parts)


def listed(values: Mapping[str, Any]) -> str:
    """A protocol as a list of definitions, nested keys joined by dots."""

    def flat(node: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
        found = []
        for key, value in node.items():
            if isinstance(value, Mapping):
                found += flat(value, f"{prefix}{key}.")
            else:
                found.append((f"{prefix}{key}", value if isinstance(value, str) else _plain(value)))
        return found

    rows = (f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in flat(values, ""))
    return f"<dl>{''.join(rows)}</dl>"


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
