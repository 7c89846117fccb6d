"""The table and the page of a sweep say what may be compared, and join nothing else."""

import csv
import html
import json
from pathlib import Path
from typing import Any

import pytest

from ldm.apps.report.charts import Curve, line_chart
from ldm.apps.report.sweep import write_sweep
from ldm.apps.report.sweep_charts import charts_across, clip_chart
from ldm.apps.report.sweep_rows import Row, Sweep, lines
from ldm.manifest import write_json
from ldm.metrics.protocol import record


def numbers(fid: float, clip: float, **protocol: Any) -> dict[str, Any]:
    return {
        "FID-256": record(fid, **protocol),
        "clip_score": record(clip, **protocol, scale="raw mean cosine"),
    }


def grid(**more: Any) -> Sweep:
    """Guidance 1, 2, 10 by 10 and 20 steps; ``more`` changes the protocol of the last job."""
    rows = []
    for guidance in (1, 2, 10):
        for steps in (10, 20):
            last = guidance == 10 and steps == 20
            protocol = {
                "guidance": float(guidance),
                "steps": steps,
                "samples": f"{guidance}{steps}",
            }
            protocol |= more if last else {}
            made = numbers(30 - guidance - steps / 10, guidance / 40, **protocol)
            rows.append(Row({"guidance": str(guidance), "steps": str(steps)}, made))
    return Sweep(rows)


def write(directory: Path, sweep: Sweep) -> str:
    """The page of a sweep whose jobs left these records; one without any failed."""
    jobs = [
        {"directory": str(i), "settings": [*r.settings.items()]} for i, r in enumerate(sweep.rows)
    ]
    finished = {str(i): "key" for i, row in enumerate(sweep.rows) if row.records}
    write_json(directory / "sweep.json", {"jobs": jobs, "finished": finished})
    for i, row in enumerate(sweep.rows):
        write_json(directory / str(i) / "metrics.json", row.records)
    return write_sweep(directory).read_text()


def test_a_line_joins_what_differs_in_one_setting_in_its_order():
    joined = lines(grid(), "guidance", ["FID-256", "clip_score"])
    assert list(joined) == ["steps 10", "steps 20"]
    assert [row.settings["guidance"] for row in joined["steps 10"]] == ["1", "2", "10"]
    assert list(lines(grid(), "steps", ["FID-256"])) == ["guidance 1", "guidance 2", "guidance 10"]


def test_other_protocols_are_not_joined_and_it_is_said(tmp_path):
    sweep = grid(resize={"kernel": "other"})
    assert list(lines(sweep, "guidance", ["FID-256"])) == [
        "steps 10", "steps 20, protocol 1", "steps 20, protocol 2",
    ]  # fmt: skip
    assert sweep.differences("FID-256") == ["resize.kernel"]
    assert sweep.bests["FID-256"] is None and grid().bests["FID-256"] == 18.0
    page = html.unescape(write(tmp_path, sweep))
    assert "FID-256, clip_score: the protocols of these jobs differ" in page
    assert "(resize.kernel)" in page and "(resize.kernel)" in (tmp_path / "table.md").read_text()
    assert "differ in more" not in write(tmp_path, grid())


def test_another_model_or_checkpoint_explains_its_fingerprints():
    rows = [
        Row({"checkpoint": step}, numbers(1.0, 0.3, model=step, autoencoder="a", weights=step))
        for step in ("500", "1000")
    ]
    assert not Sweep(rows).differences("FID-256")
    assert Sweep([r._replace(settings={"seed": "1"}) for r in rows]).differences("FID-256") == [
        "model", "weights",
    ]  # fmt: skip


def test_the_curve_names_its_points_by_guidance_and_has_the_clip_score_below():
    chart = html.unescape(clip_chart(grid()))
    assert chart.count('class="name"') == 6 and ">10</text>" in chart
    assert "CLIP score (higher is better)</text>" in chart and "FID-256" in chart
    assert chart.count('class="curve marked"') == 2
    without = [row._replace(records={"FID-256": row.records["FID-256"]}) for row in grid().rows]
    assert clip_chart(Sweep(without)) == ""
    by_sampler = [row._replace(settings={"sampler": "ddim"}) for row in grid().rows]
    assert clip_chart(Sweep(by_sampler)) == ""  # nothing to go along


def test_numbers_are_drawn_across_a_setting():
    charts = charts_across(grid(), "steps")
    assert len(charts) == 2 and all("steps</text>" in chart for chart in charts)
    assert charts_across(Sweep([Row({"steps": "1"}, {}), Row({"steps": "2"}, {})]), "steps") == []


def test_of_values_that_look_alike_the_best_alone_is_bold(tmp_path):
    fids = [20.0, 20.00002, 20.0004]
    rows = [Row({"steps": str(i)}, numbers(fid, 0.3)) for i, fid in enumerate(fids)]
    page = write(tmp_path, Sweep(rows))
    assert page.count('<td class="number"><b>') == 1
    table = (tmp_path / "table.md").read_text()
    assert (
        "| finished | **20** | 0.3 |" in table and "| 20.0004 |" in table and table.count("**") == 2
    )


def test_what_is_not_valid_is_shown_as_such_and_drawn_nowhere(tmp_path):
    sweep = grid()
    for name in ("FID-256", "clip_score"):
        sweep.rows[1].records[name].update(valid=False, why="w.pth is <unknown>")
    page = write(tmp_path, sweep)
    assert "not valid: w.pth is &lt;unknown&gt;" in page and "<s>27</s>" in page
    assert "| ~~27~~ |" in (tmp_path / "table.md").read_text()
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert rows[0] == ["guidance", "steps", "state", "FID-256", "clip_score"]
    assert rows[2] == ["1", "20", "finished", "", ""]
    assert rows[1] == ["1", "10", "finished", "28.0", "0.025"]
    assert clip_chart(sweep).count('class="name"') == 5


def test_the_page_loads_nothing_and_trusts_no_setting(tmp_path):
    hostile = '</script><script>alert("|")'
    rows = [Row({"negative": hostile + n}, numbers(1.0, 0.3, negative=n)) for n in "ab"]
    rows.append(Row({"negative": "c"}, {}))
    page = write(tmp_path, Sweep(rows))
    assert page.count("<script>") == 1 and html.escape(hostile) in page
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
    assert "<b>2</b> of 3 jobs finished" in page and "Failed: negative=c." in page
    assert '\\|")a' in (tmp_path / "table.md").read_text()
    assert "what all jobs have in common" in page and "raw mean cosine" in page


def test_a_chart_of_other_than_steps_begins_where_its_values_do():
    points = [(0.30, 20.0), (float("nan"), 1.0), (0.32, 10.0)]
    line = Curve("a", points, "red", marked=True, names=["1", "2", "4 <"])
    chart = line_chart("FID", "", [line], log=False, ordered=False, across="CLIP score")
    hover = json.loads(html.unescape(chart.split('data-chart="')[1].split('"')[0]))
    assert hover["across"] == "CLIP score"
    first, last = hover["frame"][-2:]
    assert 0.29 < first < 0.30 and 0.32 < last < 0.33
    assert chart.count('class="name"') == 2 and "4 &lt;" in chart and ">2</text>" not in chart
    assert "by CLIP score</title>" in chart and "step" not in chart.replace("steps", "")
    steps = line_chart("Loss", "", [line._replace(names=())], log=False, ordered=False)
    assert "step 0" in steps and "by step</title>" in steps


@pytest.mark.parametrize(
    ("varied", "first", "second"),
    [
        ("reference", {}, {"reference_is": {"compressed": ["JPEG"]}}),
        ("samples", {}, {"compressed": ["JPEG"]}),
        ("block", {"judging": {"block": 8}}, {"judging": {"block": 4}}),
    ],
)
def test_what_follows_from_a_varied_setting_is_no_difference(varied, first, second):
    for key, expected in {varied: [], "guidance": sorted({*first, *second})}.items():
        rows = [Row({key: str(i)}, numbers(1, 2, **p)) for i, p in enumerate((first, second))]
        found = Sweep(rows).differences("clip_score")
        assert [name.partition(".")[0] for name in found] == expected
