"""`ldm cache`: shards -> latents and token ids, once."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.bill import FILE
from ldm.apps.bill.inherited import of_inputs
from ldm.apps.cache_processes import Job, encoded
from ldm.apps.conditioning import Conditioning, conditioning
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, relative_to
from ldm.apps.progress import watch
from ldm.apps.readiness import verdict
from ldm.apps.shards import open_shards, shards_input
from ldm.data.latents.crop import RULE, Variants
from ldm.data.latents.files import LOCK, Contents, finish, lay_out, remove_traces
from ldm.data.latents.identity import finished
from ldm.data.latents.plan import Plan, Shaping, plan
from ldm.data.lock import Lock, alone
from ldm.data.shards.reader import ImageShards
from ldm.interop.diffusers import read_autoencoder
from ldm.manifest import known_manifest, read_json, write_json


def cache(config: DictConfig) -> int:
    """Encode the training and the held-out shards; finished parts are left as they are."""
    shards, held_out = open_shards(config.data)
    # Training's last: its manifest stands for the whole.
    splits = [(shards, Path(config.out))]
    if held_out is not shards:
        splits.insert(0, (held_out, Path(config.out) / "held_out"))
    vae = model_folder(config.autoencoder_run, "vae") / "vae"
    if doubts := _doubts(vae):
        print(f"{config.autoencoder_run} is {verdict(doubts)}")
    shaping = _shaping(config, vae)
    condition = conditioning(config, shards, held_out)
    planned: list[tuple[ImageShards, Path, Plan, dict[str, Any]]] = []
    for part, directory in splits:
        identity = {
            "settings": _settings(config, shaping),
            "inputs": {
                "shards": shards_input(part),
                "autoencoder": part_input(config.autoencoder_run, "vae"),
                **condition.inputs,
            },
        }
        done = finished(directory, **identity) is not None
        # Few held-out pictures are no reason to cut them to other shapes than training's.
        own = shaping if part is shards else replace(shaping, min_bucket=1)
        made = plan(part, own)  # also of what is done, which may break the limits of now
        if config.crops > 1 and made.num_exact == len(part) and part is shards:
            raise UserError(
                f"crops={config.crops} would store the same latents {config.crops} times: every "
                f"picture of {part.root} fills its shape exactly, with nothing to crop. Type "
                "crops=1, or prepare the pictures with data.square=false, which keeps them whole."
            )
        if done:
            remove_traces(directory)
            print(f"{directory} is cached already")
        else:
            planned.append((part, directory, made, identity))
    lock = Path(config.out) / LOCK
    if planned:
        contents = _contents(config, vae, condition, shards)
        job = Job.of(config, vae, condition)
        lock.parent.mkdir(parents=True, exist_ok=True)
        refusal = f"{config.out} is being made by another `ldm cache`; wait for it."
        with alone(lock, refusal) as held:
            # Another command may have finished some since.
            planned = [each for each in planned if finished(each[1], **each[3]) is None]
            for part, directory, made, identity in planned:
                _lay_out(part, directory, made, contents, identity)
            facts = {**condition.facts, "num_held_out": 0 if held_out is shards else len(held_out)}
            for part, directory, made, identity in planned:
                known = facts if part is shards else condition.facts
                _encode(part, directory, made, contents, job, held, facts=known, **identity)
    whole = known_manifest(config.out)
    if planned and whole is not None:
        write_json(Path(config.out) / FILE, of_inputs(Path(config.out), whole).as_json())
    if lock.is_file():
        lock.unlink(missing_ok=True)  # all is finished: nobody has anything to write
    more = "" if held_out is shards else f", {len(held_out)} held out"
    print(f"{config.out}: {len(shards)} latents cached{more}")
    return 0


def _doubts(vae: Path) -> list[str]:
    """Why the run that made an autoencoder found it not ready; empty where nobody knows."""
    manifest = known_manifest(vae.parent.parent)
    if manifest is None or manifest.kind != "run_autoencoder":
        return []
    return list(manifest.facts.get("not_ready_because", []))


def _lay_out(
    shards: ImageShards, directory: Path, made: Plan, contents: Contents, identity: dict[str, Any]
) -> None:
    """Take the room on the disk, before hours go into a part that comes before this one."""
    size = lay_out(directory, shards, made, contents, **identity)
    print(f"{directory}: {len(shards):,} pictures become {size / 1e6:,.1f} MB")
    for line in made.report():
        print(f"  {line}")
    if contents.variants.crops > 1 and made.num_exact:
        print(
            f"  {made.num_exact:,} of them fill their shape exactly: their crops are all the same"
        )


def _encode(
    shards: ImageShards,
    directory: Path,
    made: Plan,
    contents: Contents,
    job: Job,
    lock: Lock,
    *,
    settings: dict[str, Any],
    inputs: dict[str, dict[str, str]],
    facts: dict[str, Any],
) -> None:
    shapes = [bucket.size_px for bucket in made.buckets]
    done = encoded(job, shards, directory, shapes, contents, lock)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # other processes end too
    try:
        watch(done, f"cache ({directory})", len(shards))
    finally:
        signal.signal(signal.SIGTERM, before)
    manifest = finish(
        directory,
        shards,
        made,
        contents,
        settings=settings,
        inputs={name: relative_to(value, directory) for name, value in inputs.items()},
        facts=facts,
    )
    if truncated := manifest.facts["truncated_captions"]:
        print(f"captions with more tokens than the text encoder takes, which are cut: {truncated}")


def _shaping(config: DictConfig, vae: Path) -> Shaping:
    size_px = config.size or read_json(vae / "config.json").get("sample_size")
    if size_px is None:
        raise UserError(f"{vae} does not say at which size it was trained; give size=PIXELS.")
    # Squares have always been cut from any picture; buckets are there so that little is.
    usual = 0.25 if config.buckets else 1.0
    return Shaping(
        size_px=size_px,
        buckets=config.buckets,
        step_px=config.bucket_step,
        max_aspect_ratio=config.max_aspect_ratio,
        min_bucket=config.min_bucket,
        max_crop=usual if config.max_crop is None else config.max_crop,
        enlarge=config.upscale,
    )


def _settings(config: DictConfig, shaping: Shaping) -> dict[str, Any]:
    """All that decides the cache's bytes."""
    return {
        **shaping.settings(),
        "resampling": RULE,
        "flip": config.flip,
        "crops": config.crops,
        "seed": config.seed if config.crops > 1 else None,
        "block": config.block,
        "condition": config.condition,
        "store": config.store,
    }


def _contents(
    config: DictConfig, vae: Path, condition: Conditioning, shards: ImageShards
) -> Contents:
    autoencoder = read_autoencoder(vae)
    channels = autoencoder.encoder.conv_in.in_channels
    if channels != shards.channels:
        raise UserError(
            f"the pictures of {shards.root} have {shards.channels} channel(s), and the autoencoder "
            f"{vae} takes {channels}; train one on them with autoencoder.image_channels="
            f"{shards.channels}, or prepare the pictures with data.channels={channels}."
        )
    stride = autoencoder.stride
    step, name = (config.bucket_step, "bucket_step") if config.buckets else (config.size, "size")
    if step is not None and step % stride:
        raise UserError(
            f"{name}={step} is no multiple of {stride}, the pixels per latent of {vae}; choose "
            f"{step // stride * stride or stride} or {step // stride * stride + stride}."
        )
    encoder = condition.encoder()
    ids = encoder.tokenize([""])
    tokens, _, vector, _ = encoder.features(ids) if config.store == "features" else (None,) * 4
    return Contents(
        codes_per_latent=autoencoder.regularizer.codes_per_latent,
        latent_channels=autoencoder.latent_channels,
        stride=stride,
        variants=Variants(config.flip, config.crops, config.seed),
        with_sizes=encoder.vector_dim is not None,
        ids=tuple(ids.shape[1:]),
        tokens=None if tokens is None else (tokens.shape[1], tokens.shape[2]),
        vector=None if vector is None else vector.shape[1],
        block=config.block,
    )
