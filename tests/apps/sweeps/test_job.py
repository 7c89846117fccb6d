"""A job's directory and what it said last."""

from ldm.apps.sweeps.job import LONGEST, directory_name, last_words


def test_directory_names_are_readable_safe_and_unique():
    assert directory_name(["lr=0.001", "backbone=unet_demo"]) == "lr=0.001,backbone=unet_demo"
    assert "/" not in directory_name(["init=/a/b c"])
    assert directory_name(["init=/a/b c"]) != directory_name(["init=/a/b_c"])
    assert directory_name(["channels=[64,128]"]).startswith("channels=_64,128-")
    long = [[f"preview.prompts=[{'x' * 200}{i}]"] for i in range(2)]
    names = {directory_name(choice) for choice in long}
    assert len(names) == 2 and all(len(name) < LONGEST + 20 for name in names)


def test_the_last_words_are_those_of_this_sitting(tmp_path):
    log = tmp_path / "output.log"
    assert last_words(log, 0) == ""
    log.write_text("ldm: an earlier mistake\n")
    begin = log.stat().st_size
    assert last_words(log, begin) == ""
    log.write_text(log.read_text() + "loss 1\nTraceback\n  File\nRuntimeError: odd\n\n")
    assert last_words(log, begin) == "RuntimeError: odd"
    log.write_text(log.read_text() + "ldm: run=x is a file\nlater\n")
    assert last_words(log, begin) == "run=x is a file"
