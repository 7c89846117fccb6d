"""What a training may be made of."""

from ldm.apps.bill.scratch import check_from_scratch
from ldm.apps.rules.case import Case


def from_scratch(case: Case) -> None:
    """Nothing that others trained, where nothing of it is wanted."""
    check_from_scratch(case.config)
