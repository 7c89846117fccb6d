"""How long a training step takes on one or many GPUs: arithmetic, with its assumptions named.

A step's time is the sum of
- computing: images x seconds per image, the same whatever the number of GPUs, but no micro-batch is
  faster than the host can launch its kernels;
- fixed work per step, bound by memory: the optimizer moves 28 bytes per parameter (weight, gradient
  and two moments, read and, but for the gradient, written), the average 12, and the cast of fp32
  weights 6 per micro-batch;
- communication that the backward pass does not hide: gradients go round a ring within each machine
  and, an eighth each, between machines.
"""

from dataclasses import dataclass

GRADIENT_BYTES = 4  # of fp32 gradients; DDP reduces them as they are
OPTIMIZER_BYTES, AVERAGE_BYTES, CAST_BYTES = 28, 12, 6
BACKWARD_SHARE = 2 / 3  # of a micro-batch's time
OVERLAP = 0.9  # share of the last micro-batch's backward pass behind which communication hides
TAIL = 0.05  # share of communication that no backward pass is left for: the first layers' gradients
LAUNCH_SECONDS = 36e-6  # per weight tensor: some 7 kernels, forwards and backwards, of 5 us each

ASSUMPTIONS = (
    f"no micro-batch is faster than its kernels are launched: {LAUNCH_SECONDS * 1e6:g} us for each "
    "weight tensor (an estimate; a compiled network needs less)",
    f"per step the optimizer moves {OPTIMIZER_BYTES} bytes per parameter and the average "
    f"{AVERAGE_BYTES}, per micro-batch the cast of weights {CAST_BYTES}, at the memory's bandwidth",
    "gradients (fp32) go round a ring in each machine, then between machines, each GPU its part",
    f"communication hides behind {OVERLAP:.0%} of the last backward pass, but for {TAIL:.0%} of it",
    "reading data, validation, sample pictures, checkpoints and restarts cost nothing",
)


@dataclass(frozen=True)
class Work:
    """What a step asks of the devices, whatever their number."""

    parameters: int  # that are trained, and whose gradients travel
    averaged: bool
    casts: bool  # fp32 weights are cast to 16 bits for every micro-batch
    tensors: int = 0  # that the weights are
    sharded: bool = False  # fsdp: weights are gathered for every micro-batch
    launch_seconds: float = LAUNCH_SECONDS  # per tensor


@dataclass(frozen=True)
class Links:
    """What devices move, in bytes per second and one direction."""

    memory: float
    link: float
    network: float
    gpus_per_machine: int = 8


@dataclass(frozen=True)
class Cut:
    """A step's images cut among GPUs."""

    gpus: int
    images: int  # per GPU and step
    micro_steps: int = 1


def fixed_seconds(work: Work, links: Links, cut: Cut) -> float:
    """Of each step, on each GPU, beside computing and communication."""
    held = work.parameters / (shards(cut.gpus, links.gpus_per_machine) if work.sharded else 1)
    moved = held * (OPTIMIZER_BYTES + AVERAGE_BYTES * work.averaged)
    moved += work.parameters * CAST_BYTES * work.casts * cut.micro_steps
    return moved / links.memory


def communication_seconds(work: Work, links: Links, cut: Cut) -> float:
    """Of each step, if nothing hid it."""
    inside = _per_machine(links, cut.gpus)
    machines = -(-cut.gpus // inside)
    gradients = GRADIENT_BYTES * work.parameters
    ring = (inside - 1) / inside  # reduce-scatter, and once more all-gather
    passes = 1 + 2 * cut.micro_steps if work.sharded else 2  # fsdp gathers fp32 weights
    if work.sharded and inside == 1:  # between machines
        return passes * (cut.gpus - 1) / cut.gpus * gradients / links.network
    seconds = passes * ring * gradients / links.link
    if machines > 1:
        seconds += 2 * (machines - 1) / machines * gradients / inside / links.network
    return seconds


def exposed_seconds(work: Work, links: Links, cut: Cut, image_seconds: float) -> float:
    """What of communication a step waits for, where an image takes so long to compute."""
    whole = communication_seconds(work, links, cut)
    micro_steps = cut.micro_steps if work.sharded else 1  # its gathering is in every pass
    backward = BACKWARD_SHARE * _pass_seconds(work, cut, image_seconds) * micro_steps
    return max(whole - OVERLAP * backward, TAIL * whole)


def step_seconds(work: Work, links: Links, cut: Cut, image_seconds: float) -> float:
    """The time of one optimizer step."""
    return (
        _pass_seconds(work, cut, image_seconds) * cut.micro_steps
        + fixed_seconds(work, links, cut)
        + exposed_seconds(work, links, cut, image_seconds)
    )


def image_seconds(work: Work, links: Links, cut: Cut, seconds: float) -> float:
    """What computing one image takes where a whole step takes ``seconds``.

    ValueError where launching, fixed work and communication alone take longer.
    """
    low, high = 0.0, seconds / cut.images
    least = step_seconds(work, links, cut, 0.0)
    if least >= seconds:
        raise ValueError(
            f"a step of {seconds * 1e3:.3g} ms on {cut.gpus} GPU(s) is shorter than what "
            f"optimizer, launching and communication need there ({least * 1e3:.3g} ms)"
        )
    for _ in range(100):  # step_seconds rises with the image's
        middle = (low + high) / 2
        if step_seconds(work, links, cut, middle) < seconds:
            low = middle
        else:
            high = middle
    return high


def _pass_seconds(work: Work, cut: Cut, image_seconds: float) -> float:
    """Of one micro-batch."""
    return max(image_seconds * cut.images / cut.micro_steps, work.launch_seconds * work.tensors)


def shards(gpus: int, per_machine: int) -> int:
    """Among how many GPUs fsdp cuts weights: those of a machine, else of machines with one each."""
    return min(gpus, per_machine) if per_machine > 1 else gpus


def _per_machine(links: Links, gpus: int) -> int:
    return min(gpus, links.gpus_per_machine)
