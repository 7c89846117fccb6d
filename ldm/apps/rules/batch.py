"""The global batch: global_batch = processes x micro_batch x accumulation."""

from collections.abc import Iterator

from ldm.apps.rules.case import Case
from ldm.apps.shares import needs_whole_batch, shares_of


def divides(case: Case) -> None:
    """Whether the batch can be cut as asked."""
    shares_of(case.config, [(case.config.size, case.config.size)])  # says what does not divide


def whole_at_once(case: Case) -> Iterator[str]:
    """What needs the whole batch at once, and would see it in passes."""
    config = case.config
    if case.share.accumulate == 1 or not needs_whole_batch(config):
        return
    if config.stage == "text_encoder":
        needs, remedy = "compares every picture with every caption of the global batch", ""
    else:
        needs = "with discriminator.norm=batch takes statistics over the global batch"
        remedy = "set discriminator.norm=group, "
    yield (
        f"stage {config.stage} {needs}, and with micro_batch={config.micro_batch} "
        f"max_micro_pixels={config.max_micro_pixels} it would come in {case.share.accumulate} "
        f"passes. Set both to null, {remedy}lower global_batch, or use more devices."
    )
