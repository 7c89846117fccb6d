"""Disk speed: measured on a file that is gone afterwards, judged by what it would hold up."""

from pathlib import Path

import pytest

from ldm.apps.diagnoses import disk_speed
from ldm.apps.diagnoses.disk_speed import Speed, judged, measured


def test_a_file_is_written_read_and_gone(tmp_path: Path) -> None:
    check = disk_speed.disk_speed(tmp_path, size=4 * 1024**2)
    assert check.detail.startswith(f"{tmp_path}: writes ") and "pieces of 16 kB" in check.detail
    assert not list(tmp_path.iterdir())


def test_all_of_the_file_is_written(tmp_path: Path) -> None:
    speed = measured(tmp_path / "file", 3 * 1024**2 + 5)
    assert (tmp_path / "file").stat().st_size == 3 * 1024**2 + 5
    assert min(speed) > 0.0


@pytest.mark.parametrize(
    "speed, status, remedy",
    [
        (Speed(2e9, 3e9, 20_000), "ok", ""),
        (Speed(23e6, 3e9, 20_000), "warn", "takes 10 minutes here: give run="),
        (Speed(2e8, 2e8, 90), "warn", "data.order=streamed"),
    ],
)
def test_what_is_slow_says_what_it_holds_up(speed: Speed, status: str, remedy: str) -> None:
    check = judged(speed, Path("runs"))
    assert check.status == status and remedy in check.remedy
    assert (check.remedy == "") is (status == "ok")


def test_where_nothing_can_be_written_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = disk_speed.disk_speed(tmp_path / "absent")
    assert check.status == "warn" and "not measured" in check.detail and "run_dir=" in check.remedy
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(disk_speed.shutil, "disk_usage", lambda path: full)
    assert "nearly full" in disk_speed.disk_speed(tmp_path).detail
