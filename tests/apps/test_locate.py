"""Parts of models that are not where they are looked for: what is there, and what makes one."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder
from ldm.manifest import write_manifest


def test_a_finished_run_of_another_stage_is_told_from_one_that_is_not_finished(tmp_path):
    (tmp_path / "config.yaml").write_text("stage: text_encoder\n")
    with pytest.raises(UserError, match="is not finished: it has no model/text_encoder"):
        model_folder(str(tmp_path), "text_encoder")
    write_manifest(tmp_path, kind="run_text_encoder", settings={})
    told = "is finished, of stage text_encoder, and holds no unet; .*stage=diffusion makes one"
    with pytest.raises(UserError, match=told):
        model_folder(str(tmp_path), "unet")
