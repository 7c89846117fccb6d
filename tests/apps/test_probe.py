"""Libraries tried in a process of their own: crashes and hangs are findings."""

from ldm.apps.probe import Probe, try_libraries


def test_a_crash_is_a_finding_and_what_follows_is_not_tried() -> None:
    probes = try_libraries(
        {"one": "facts = {'a': 1}", "two": "import os; os.abort()", "three": "facts = {}"}
    )
    assert probes["one"] == Probe({"a": 1})
    assert "killed by signal" in probes["two"].error
    assert not probes["three"].tried and "two failed" in probes["three"].error


def test_an_exception_is_reported_by_its_last_line() -> None:
    probe = try_libraries({"one": "raise RuntimeError('operator nms does not exist')"})["one"]
    assert probe.error == "RuntimeError: operator nms does not exist"


def test_a_hang_ends_at_the_time_limit() -> None:
    code = "import threading; threading.Event().wait()"
    probes = try_libraries({"one": "facts = {}", "two": code}, timeout_seconds=2)
    assert not probes["one"].error
    assert "no answer within 2 s" in probes["two"].error
