"""The model's own towers, or which metrics cannot do without them."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.evaluations.own_towers import own_towers


def test_all_metrics_that_ask_for_them_are_named():
    with pytest.raises(UserError, match="rfd_own, kid_own, .*memorisation.* and there is no model"):
        own_towers(None, "there is no model=")
