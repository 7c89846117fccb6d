"""Event files as TensorBoard itself reads them."""

import importlib.util
from types import SimpleNamespace

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.loggers.tensorboard import TensorBoard


def read(directory):
    found = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    return found.Reload()


def curve(found, name):
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_curves_go_on_where_the_run_does(tmp_path, monkeypatch):
    log, seconds = TensorBoard(), 10**9
    # Files are read in the order of their names, which have the second in them.
    clock = SimpleNamespace(time=lambda: seconds)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)
    for held, steps in ((None, [20, 40, 60]), (40, [60, 80]), (20, [40])):
        seconds += 1
        assert log.open(Run(tmp_path, {"lr": 1e-3}), held, None) == ""
        log.write([{"step": s, "images_seen": 8 * s, "train/loss": s + (held or 0)} for s in steps])
        log.close(failed=False)
        if held == 40:
            found = read(tmp_path)
            assert curve(found, "train/loss") == [(20, 20), (40, 40), (60, 100), (80, 120)]
    found = read(tmp_path)
    assert curve(found, "train/loss") == [(20, 20), (40, 60)]
    assert [event.step for event in found.Scalars("images_seen")] == [20, 40]
    assert "step" not in found.Tags()["scalars"]


def test_rows_are_in_the_file_before_the_end(tmp_path):
    log = TensorBoard()
    log.open(Run(tmp_path, {}), None, None)
    log.write([{"step": 20, "train/loss": 1.0}])
    assert curve(read(tmp_path), "train/loss") == [(20, 1.0)]  # so a kill loses none
    log.close(failed=True)


def test_sheets_and_their_captions_and_the_settings_are_there(tmp_path):
    Image.new("L", (6, 4), 200).save(tmp_path / "sheet.png")
    log = TensorBoard()
    log.open(Run(tmp_path, {"lr": 1e-3, "backbone": {"width": 8}}), None, None)
    for step in (20, 40):
        log.show(Picture("samples", step, tmp_path / "sheet.png", ["a red circle", "a square"]))
    log.close(failed=False)
    found = read(tmp_path)
    assert [(image.step, image.width, image.height) for image in found.Images("samples")] == [
        (20, 6, 4), (40, 6, 4),
    ]  # fmt: skip
    texts = {name: found.Tensors(name) for name in found.Tags()["tensors"]}
    (captions,) = texts["samples/captions/text_summary"]
    assert b"2. a square" in captions.tensor_proto.string_val[0]
    assert b'"width": 8' in texts["run/text_summary"][0].tensor_proto.string_val[0]


def test_without_the_package_it_says_what_to_type(monkeypatch):
    TensorBoard().require()
    monkeypatch.setattr(
        "ldm.callbacks.loggers.tensorboard.find_spec", lambda name: importlib.util.find_spec("no_")
    )
    with pytest.raises(ValueError, match=r"pip install 'ldm\[tensorboard\]'"):
        TensorBoard().require()
