"""Whether compile=true would work: a compiler, Python's headers, and a tiny network compiled."""

import os
import shutil
import sysconfig
import tempfile
from pathlib import Path

from ldm.apps.machine import Check
from ldm.apps.probe import NO_ANSWER, Probe, try_libraries

NAME = "torch.compile"
LIMIT_SECONDS = 120
WITHOUT = "compile=false, the default, needs none of this."
_TRIAL = """
import time
import torch
device = "cuda" if torch.cuda.is_available() else "cpu"
begun = time.monotonic()
import torch._inductor.config as inductor
if hasattr(inductor, "cpp_cache_precompile_headers"):
    inductor.cpp_cache_precompile_headers = False  # which pays from the second kernel on
torch.compile(lambda x: x + 1)(torch.ones(64, device=device))
facts = {"device": device, "seconds": round(time.monotonic() - begun, 1)}
"""


def tried() -> Probe:
    """One small function compiled and called, in a process of its own; nothing is kept."""
    with tempfile.TemporaryDirectory(prefix="ldm_doctor_") as cache:
        more = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
        more |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no pool of processes for one kernel
        # Nor half a minute in which each width of vectors is compiled and imported to try it.
        more |= {"TORCHINDUCTOR_VEC_ISA_OK": "0"}
        trial = try_libraries({NAME: _TRIAL}, timeout_seconds=LIMIT_SECONDS, environment=more)
    return trial[NAME]


def compiling(found: Probe, *, on_gpu: bool) -> Check:
    """What the trial gave; where it failed, what is missing for it."""
    if found.error.startswith(NO_ANSWER):
        remedy = f"Ask again when this machine is less busy. {WITHOUT}"
        return Check(NAME, "warn", f"not settled: {found.error}", remedy)
    lacks = missing(on_gpu=on_gpu)
    if not found.error:
        where, seconds = found.facts["device"], found.facts["seconds"]
        return Check(NAME, "ok", f"compiles on {where}: one small function took {seconds:g} s")
    if not lacks:
        remedy = f"Run with TORCH_LOGS=+dynamo to see more. {WITHOUT}"
        return Check(NAME, "warn", f"compile=true would fail: {found.error}", remedy)
    what = ", ".join(lacks)
    return Check(
        NAME, "warn", f"compile=true would fail: {what}", f"{' '.join(lacks.values())} {WITHOUT}"
    )


def missing(*, on_gpu: bool) -> dict[str, str]:
    """What the toolchain lacks, each with how it is installed."""
    lacks = {}
    names = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    if not any(shutil.which(name) for name in names if name):
        lacks["no C++ compiler"] = "Install one: `apt-get install g++`, or name one by CXX=."
    if on_gpu and not any(shutil.which(n) for n in (os.environ.get("CC", ""), "gcc", "clang") if n):
        lacks["no C compiler"] = "Install one: `apt-get install gcc`, or name one by CC=."
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        lacks["no headers of Python"] = "Install them: `apt-get install python3-dev`."
    if on_gpu and not _has("triton"):
        lacks["no triton"] = "Install it: `pip install -c constraints.txt triton`."
    return lacks


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
