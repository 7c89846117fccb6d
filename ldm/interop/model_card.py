"""The model card: README.md with a YAML header, in the convention of the Hugging Face hub."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ldm.generation import TextToImage
from ldm.manifest import VERSION, Manifest
from ldm.text.sdxl_text import SdxlText
from ldm.weights import TABLE

_RUNS = {
    "run_text_encoder": "text encoder",
    "run_text_encoder_2": "second text encoder",
    "run_autoencoder": "autoencoder",
    "run_diffusion": "denoiser",
}
_TRAINING = ("global_batch", "lr", "precision", "size", "seed", "drop_rate", "ema_decay")


def model_card(
    *,
    title: str,
    licence: str | None,
    library: str | None,
    usage: str,
    model: TextToImage,
    lineage: Mapping[str, Manifest],
    metrics: Mapping[str, Mapping[str, Any]],
    materials: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """What the model is, from what it was made, how it measures, under which terms.

    ``lineage`` holds the manifests of the runs and data by their kind, ``metrics`` the records
    of a metrics file, ``materials`` the lists pretrained and data of its bill of materials,
    ``usage`` a paragraph of Markdown, ``licence`` the hub's name of one, ``library`` that of what
    loads it.
    """
    prediction = model.denoiser.prediction.name
    kind = "inpainting by text" if model.inpaints else "text to image"
    sections = {
        "Use": usage,
        "Parts": _parts(model, lineage),
        "Training data": _data(lineage),
        "Training": _training(lineage),
        "Metrics": _metrics(metrics),
        "Materials": _materials(materials),
        "Licences": _licences(licence, lineage, _text_encoders(model)),
    }
    text = [
        _header(title, licence, library, lineage, metrics),
        f"# {title}\n",
        f"A latent diffusion model ({kind}) for pictures of {model.size_px} px; "
        f"{prediction}-prediction, schedule {model.denoiser.schedule.description['name']}. "
        f"Written by ldm {VERSION}.\n",
        *(f"## {name}\n\n{body}\n" for name, body in sections.items()),
    ]
    return "\n".join(text)


def _header(
    title: str,
    licence: str | None,
    library: str | None,
    lineage: Mapping[str, Manifest],
    metrics: Mapping[str, Mapping[str, Any]],
) -> str:
    """The YAML header; its values are written as JSON, which YAML contains."""
    values: dict[str, Any] = {} if licence is None else {"license": licence}
    if library is not None:
        values["library_name"] = library
    values["pipeline_tag"] = "text-to-image"
    values["tags"] = ["latent-diffusion", "stable-diffusion", "text-to-image"]
    results = [
        {"type": name, "name": name, "value": record["value"]}
        for name, record in metrics.items()
        if "." not in name
    ]
    if results:
        name = str(lineage["shards"].settings.get("source")) if "shards" in lineage else "unknown"
        entry = {
            "task": {"type": "text-to-image"},
            "dataset": {"name": name, "type": name},
            "metrics": results,
        }
        values["model-index"] = [{"name": title, "results": [entry]}]
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _parts(model: TextToImage, lineage: Mapping[str, Manifest]) -> str:
    parts: dict[str, tuple[nn.Module, str]] = {
        "denoiser": (model.denoiser.network, "run_diffusion"),
        "autoencoder": (model.autoencoder, "run_autoencoder"),
    }
    for name, encoder in _text_encoders(model).items():
        parts[_RUNS[name]] = (encoder, name)
    rows = ["| part | network | parameters | made by |", "|---|---|---|---|"]
    for name, (network, kind) in parts.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        made = "of unknown origin"
        if kind in lineage:
            made = f"trained by ldm, run {lineage[kind].fingerprint}"
        elif "run_import" in lineage:
            imported = lineage["run_import"]
            made = f"imported from {imported.settings['from']} ({imported.fingerprint})"
        rows.append(f"| {name} | {type(network).__name__} | {count:,} | {made} |")
    return "\n".join(rows)


def _text_encoders(model: TextToImage) -> dict[str, nn.Module]:
    """By the kind of the run that trains one."""
    text = model.text_encoder
    assert isinstance(text, nn.Module)
    if not isinstance(text, SdxlText):
        return {"run_text_encoder": text}
    first = {} if text.text_encoder is None else {"run_text_encoder": text.text_encoder}
    return {**first, "run_text_encoder_2": text.text_encoder_2}


def _data(lineage: Mapping[str, Manifest]) -> str:
    if "shards" not in lineage:
        return "Not recorded with the model."
    shards = lineage["shards"]
    settings = ", ".join(f"{k} {v}" for k, v in sorted(shards.settings.items()) if k != "source")
    return (
        f"{shards.facts.get('num_samples', 'unknown')} pictures, source "
        f"`{shards.settings.get('source')}` ({settings}); fingerprint {shards.fingerprint}."
    )


def _training(lineage: Mapping[str, Manifest]) -> str:
    lines = []
    for kind, name in _RUNS.items():
        if kind in lineage:
            run = lineage[kind]
            chosen = ", ".join(f"{k} {run.settings[k]}" for k in _TRAINING if k in run.settings)
            lines.append(f"- {name}: {run.facts['step']:,} steps ({chosen})")
    return "\n".join(lines) or "Not recorded with the model."


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not metrics:
        return "None were measured on this model before its export."
    rows = ["| metric | value | protocol |", "|---|---|---|"]
    hashes: dict[str, Mapping[str, Any]] = {}
    for name, record in metrics.items():
        protocol = record["protocol"]
        hashes[str(protocol.get("hash"))] = protocol
        rows.append(f"| {name} | {record['value']:.6g} | {protocol.get('hash')} |")
    text = "\n".join(rows) + "\n\nTwo numbers are comparable only if their protocols are equal.\n"
    for identity, protocol in hashes.items():
        written = json.dumps(protocol, indent=1, sort_keys=True)
        text += f"\nProtocol {identity}:\n\n```json\n{written}\n```\n"
    return text


def _materials(materials: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Weights of others with their roles, and data with licences, as tables."""
    parts, data = materials.get("pretrained", ()), materials.get("data", ())
    rows = [
        "| role | name | sha256 or fingerprint | licence | trained on | for |",
        "|" + "---|" * 6,
    ]
    for part in parts:
        identity = part.get("sha256") or part.get("fingerprint")
        cells = (part["role"], part["name"], identity, part["licence"], part["trained_on"])
        rows.append(_row(*cells, ", ".join(part["for"])))
    tables = ["\n".join(rows)] if parts else []
    rows = ["| data | pictures | held out | licences | for |", "|" + "---|" * 5]
    for entry in data:
        licences = "; ".join(f"{count:,} {name}" for name, count in entry["licences"].items())
        counts = [
            "unknown" if entry[key] is None else f"{entry[key]:,}"
            for key in ("num_samples", "num_held_out")
        ]
        rows.append(_row(entry["source"], *counts, licences or "unknown", ", ".join(entry["for"])))
    tables += ["\n".join(rows)] if data else []
    return "\n\n".join(tables) or "Not recorded with the model."


def _row(*cells: Any) -> str:
    """A row of a table; what would end a cell is kept from it."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _licences(
    licence: str | None, lineage: Mapping[str, Manifest], text_encoders: Iterable[str]
) -> str:
    given = "No licence was given for these weights." if licence is None else f"Weights: {licence}."
    lines = [f"- {given}"]
    autoencoder = lineage.get("run_autoencoder")
    if autoencoder is not None and autoencoder.settings.get("perceptual") == "lpips":
        vgg = TABLE["vgg16"]
        lines.append(
            f"- The autoencoder was trained against {vgg.source}, licence {vgg.terms}, and the "
            "LPIPS heads (BSD-2-Clause); neither is part of this model."
        )
    started = {
        name: lineage[kind].settings["init"]
        for kind, name in _RUNS.items()
        if kind in lineage and lineage[kind].settings.get("init")
    }
    lines += [
        f"- The {name} began with the weights of {source}, whose licence holds for it too."
        for name, source in started.items()
    ]
    if "run_import" in lineage:
        lines.append("- Imported parts stay under the licence of their publisher.")
    elif not started and {"run_autoencoder", "run_diffusion", *text_encoders} <= lineage.keys():
        lines.append("- All networks were trained from random weights; none is pretrained.")
    return "\n".join(lines)
