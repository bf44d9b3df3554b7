"""The page in a real browser: drawn, filtered and clicked without a network, hostile names shown as text."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from embedopt.conditions import BackendInfo
from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import History, read_history
from embedopt.records import LoadPoint, LoadTest, Part, ShardReference, Throughput
from embedopt.report.page import page_data, render_page
from tests.histories import SHIFTS, write_history
from tests.runs import HOSTILE, make_file, make_load, make_run

Open = Callable[..., Page]
CHARTS = ("history", "latency", "throughput", "cost", "fidelity", "sweep", "load")

# Visible texts that leave their chart or overlap another text.
_CLASHES = """() => [...document.querySelectorAll(".chart")].flatMap((chart) => {
  const frame = chart.getBoundingClientRect();
  const boxes = [...chart.querySelectorAll("text")]
    .map((text) => ({ name: `${chart.id}: ${text.textContent}`, box: text.getBoundingClientRect() }))
    .filter(({ box }) => box.width > 0);
  const isCut = ({ box }) => box.left < frame.left - 1 || box.right > frame.right + 1
    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const isMet = (one, index) => boxes.slice(index + 1).some((other) => meet(one.box, other.box));
  return [
    ...boxes.filter(isCut).map(({ name }) => `${name} is cut`),
    ...boxes.filter(isMet).map(({ name }) => `${name} overlaps`),
  ];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    shifts = {20: SHIFTS[230]}
    return read_history(write_history(tmp_path_factory.mktemp("history"), 40, shifts))


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> History:
    return read_history(write_history(tmp_path_factory.mktemp("one"), 1))


@pytest.fixture
def opened(browser: Browser, tmp_path: Path, history: History) -> Iterator[Open]:
    """Open a page from disk; at the end, check that it fetched nothing and reported no error."""
    pages: list[Page] = []
    fetched: list[str] = []
    errors: list[str] = []

    def open_page(shown: History = history, width: int = 1280, scheme: Any = "light") -> Page:
        file = tmp_path / "report.html"
        file.write_text(render_page(shown, 0.05), encoding="utf8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [url for url in fetched if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []


def test_every_chart_is_drawn_and_says_its_unit_and_which_way_is_better(opened: Open) -> None:
    page = opened()
    for name in CHARTS:
        expect(page.locator(f"#{name} .main-svg").first).to_be_visible()
        assert "better" in page.locator(f"#n-{name}").inner_text()
    assert page.locator("#history .scatterlayer .trace").count() == 2  # onnx-int8 at batch 32, and its change
    assert "p50_ms in times torch-fp32's, lower is better" in page.locator("#n-history").inner_text()


def test_the_tables_of_the_terminal_are_shown(opened: Open) -> None:
    page = opened()
    titles = page.locator("#tables caption").all_inner_texts()
    assert titles[0] == "Key results: latency of a call at batch size 1, texts/s at 1 or 32"
    assert "Calls with a whole batch" in titles
    heads = page.locator("#tables table").first.locator("th").all_inner_texts()
    assert heads[:6] == ["backend", "p50 ms", "p95 ms", "p99 ms", "texts/s", "speed-up"]
    assert page.locator("#tables table").first.locator("td").first.inner_text() == "torch-fp32 *"


def test_a_filter_changes_the_charts(opened: Open) -> None:
    page = opened()
    assert page.locator("#throughput .point").count() == 3
    page.get_by_role("checkbox", name="onnx-int8").uncheck()
    assert page.locator("#throughput .point").count() == 2
    assert page.locator("#k-load li").all_inner_texts() == ["torch-fp32"]
    page.locator("#batch").select_option("64")
    expect(page.locator("#history")).to_have_text("Not measured at batch size 64: choose 1.")
    page.get_by_role("checkbox", name="onnx-fp32").uncheck()
    expect(page.locator("#history")).to_have_text("The backends that have it are switched off.")
    page.get_by_role("checkbox", name="onnx-int8").check()
    expect(page.locator("#history .scatterlayer .trace")).to_have_count(1)
    page.locator("#metric").select_option("cosine_mean")
    assert "cosine_mean, higher is better" in page.locator("#n-history").inner_text()


def test_keys_show_the_symbols_of_the_charts_and_the_promise_has_a_line_of_its_own(opened: Open) -> None:
    page = opened()
    shapes = page.locator("#k-load .swatch path")
    assert shapes.count() == 2
    assert shapes.nth(0).get_attribute("d") != shapes.nth(1).get_attribute("d")
    assert "thick grey line is the promise of 50 ms" in page.locator("#n-load").inner_text()
    dashes = page.evaluate("document.getElementById('load').data.map((trace) => trace.line.dash)")
    [promise] = page.evaluate("document.getElementById('load').layout.shapes")
    assert (promise["line"].get("dash"), promise["line"]["width"]) == (None, 3)
    assert set(dashes) == {"solid", "dash"}


def test_a_metric_is_shown_at_a_batch_size_that_it_has(opened: Open, tmp_path: Path) -> None:
    folder = write_history(tmp_path / "p99", 1)
    content = json.loads((folder / "0001_run.json").read_text(encoding="utf8"))
    for bench in content["benchmarks"]:
        if bench["extra_info"].get("batch_size") == 1:
            bench["extra_info"] |= {"p99_ms": 4.0, "p99_ci_ms": [3.0, 5.0]}
    (folder / "0001_run.json").write_text(json.dumps(content), encoding="utf8")
    page = opened(read_history(folder))
    expect(page.locator("#batch")).to_have_value("32")
    page.locator("#metric").select_option("p99_ms")
    expect(page.locator("#batch")).to_have_value("1")
    expect(page.locator("#history .scatterlayer .trace")).to_have_count(2)
    assert page.locator("#batch option").all_inner_texts() == ["1", "8", "32", "64"]
    page.locator("#batch").select_option("64")
    expect(page.locator("#history")).to_have_text("Not measured at batch size 64: choose 1.")


def test_a_click_on_a_point_shows_its_commit_and_environment(opened: Open) -> None:
    page = opened()
    expect(page.locator("#details")).to_contain_text(f"{39:040x}")
    mark = page.locator("#history .scatterlayer .trace").last.locator("path.point").first
    box = mark.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#run-number")).to_have_text("21 of 40")
    expect(page.locator("#details")).to_contain_text(f"{20:040x}")
    expect(page.locator("#details")).to_contain_text("torch 2.13.0")


def test_everything_can_be_reached_with_the_keyboard_alone(opened: Open) -> None:
    page = opened()
    page.locator("#run").focus()
    page.keyboard.press("Home")
    expect(page.locator("#run-number")).to_have_text("1 of 40")
    cursor = page.locator("#history .shapelayer path[data-index='0']")
    first = cursor.bounding_box()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details")).to_contain_text("0002_run.json")
    second = cursor.bounding_box()
    assert first is not None
    assert second is not None
    assert first["x"] < second["x"]
    reached = set()
    page.locator("body").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert {"theme", "kind", "batch", "metric", "run", "torch-fp32", "onnx-int8"} <= reached


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("runs", ["history", "one_run"])
def test_nothing_overlaps_and_nothing_is_cut(
    opened: Open, request: pytest.FixtureRequest, runs: str, width: int, scheme: str
) -> None:
    page = opened(request.getfixturevalue(runs), width=width, scheme=scheme)
    expect(page.locator("#load .main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_CLASHES) == []
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_the_time_of_a_single_run_has_a_day_on_each_side(opened: Open, one_run: History) -> None:
    page = opened(one_run)
    ticks = page.locator("#history .xtick").all_text_contents()
    assert ticks == ["Dec 312024", "Jan 12025", "Jan 2"]


def test_the_theme_can_be_changed_by_hand(opened: Open) -> None:
    page = opened()
    ink = "getComputedStyle(document.querySelector('#history .xtick text')).fill"
    light = page.evaluate(ink)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ink) != light


def test_the_page_can_be_printed_and_keeps_its_theme(opened: Open) -> None:
    page = opened(scheme="dark")
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_on_paper_the_chosen_filters_are_named(opened: Open) -> None:
    page = opened(width=718)
    page.locator("#batch").select_option("1")
    page.emulate_media(media="print")
    assert page.locator("select:visible, input:visible, button:visible").count() == 0
    assert page.locator("#filters").inner_text().split("\n") == [
        "Hardware, model, corpus",
        "Test CPU | avx2+vnni | 2 cores | 2 threads | model aaaaaaaaaaaa | corpus bbbbbbbbbbbb",
        "Batch size",
        "1",
        "Metric over time",
        "p50_ms",
    ]
    assert page.locator("#k-history li").all_inner_texts() == ["onnx-fp32", "onnx-int8"]


def test_bands_are_drawn_for_few_backends_and_their_figures_named_for_all(
    opened: Open, tmp_path: Path
) -> None:
    details = opened().locator("#details")
    expect(details).to_contain_text(
        re.compile(r"onnx-int8 batch 32: 1\.\d+ \(95 % of its level's runs: 1\.\d+ to 1")
    )
    for day in range(1, 7):
        content = {
            "benchmarks": [
                {"fullname": f"theirs {number}", "stats": {"median": 0.1 + number + 0.01 * (day % 2)}}
                for number in range(5)
            ],
            "datetime": f"2026-03-0{day}T12:00:00+00:00",
        }
        (tmp_path / f"000{day}_theirs.json").write_text(json.dumps(content), encoding="utf8")
    page = opened(read_history(tmp_path))
    expect(page.locator("#n-history")).to_contain_text("Choose up to 4 backends to see bands")
    expect(page.locator("#history .shapelayer path")).to_have_count(1)
    expect(page.locator("#details")).to_contain_text("theirs 4: 4.1 (95 % of its level's runs: 4.0")
    page.get_by_role("checkbox", name="theirs 4").uncheck()
    expect(page.locator("#n-history")).to_contain_text("Bands: where 95 % of runs lie")
    expect(page.locator("#history .shapelayer path")).to_have_count(5)


def _write_named(folder: Path, *names: str) -> Path:
    """Write a run in which everything that can have a name has one of these."""
    run, bench = make_run(), make_file(None)["benchmarks"][0]
    named = make_run(
        hardware_class=names[0],
        machine=dataclasses.replace(run.machine, libraries={name: name for name in names}),
        backends=dict(run.backends)
        | {name: BackendInfo(precision="fp32", base=None, settings={}) for name in names},
        accuracy=dict(run.accuracy) | dict.fromkeys(names, run.accuracy["onnx-int8"]),
        throughput=dict(run.throughput) | dict.fromkeys(names, run.throughput["onnx-int8"]),
        load={name: make_load()["onnx-int8"] for name in names},
    )
    content = make_file(named) | {"datetime": "2026-03-01T12:00:00+00:00", "commit_info": {"id": names[0]}}
    for name in names:
        extra = bench["extra_info"] | {"backend": name, "batch_size": 32}
        content["benchmarks"].append({"fullname": name, "extra_info": extra})
    folder.mkdir()
    (folder / "0001_<b>.json").write_text(json.dumps(content), encoding="utf8")
    return folder


def test_hostile_names_stay_text(opened: Open, tmp_path: Path) -> None:
    folder = _write_named(tmp_path / "hostile", HOSTILE)
    (folder / "0000_<b>.json").write_text("half-writ", encoding="utf8")
    page = opened(read_history(folder))
    expect(page.locator("#notes")).to_contain_text("0000_<b>.json is damaged")
    expect(page.locator("#details")).to_contain_text("</script><img src=x onerror=alert(1)>")
    assert page.locator("img, b, main a, main script").count() == 0
    expect(page.locator("#throughput .ytick").first).to_be_visible()
    assert "</script><img src=x one…" in page.locator("#throughput").inner_text()


def test_long_names_are_cut_but_stay_distinct_and_none_is_a_formula(opened: Open, tmp_path: Path) -> None:
    names = ("a" * 2999 + "b", "a" * 2999 + "c", "$x^2$")
    page = opened(read_history(_write_named(tmp_path / "long", *names)), 390)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight") < 10_000
    assert page.evaluate(_CLASHES) == []
    expect(page.get_by_role("checkbox")).to_have_count(6)
    page.get_by_role("checkbox", name="a" * 55).first.uncheck()
    assert page.locator("#throughput .point").count() == 5
    ticks = page.locator("#throughput .ytick").all_text_contents()
    assert [tick[:12] for tick in ticks if tick.startswith("a")] == ["a" * 11 + "…"]
    assert "$x^2$" in ticks


def test_the_page_opens_on_the_hardware_of_the_newest_run(tmp_path: Path) -> None:
    folder = write_history(tmp_path, 3, {})
    content = json.loads((folder / "0003_run.json").read_text(encoding="utf8"))
    content["embedopt"]["hardware_class"] = "another"
    (folder / "0003_run.json").write_text(json.dumps(content), encoding="utf8")
    kinds = page_data(read_history(folder), 0.05)["kinds"]
    assert [kind["hardware_class"] for kind in kinds] == ["another", make_run().hardware_class]


def test_the_times_of_another_suite_are_followed_in_seconds(opened: Open, tmp_path: Path) -> None:
    content = {
        "benchmarks": [{"fullname": "theirs batch big", "stats": {"median": 0.002}}],
        "datetime": "2026-03-01T12:00:00+00:00",
    }
    (tmp_path / "0001_theirs.json").write_text(json.dumps(content), encoding="utf8")
    page = opened(read_history(tmp_path))
    expect(page.locator("#n-history")).to_contain_text("median in s, lower is better")
    expect(page.locator("#details")).to_contain_text("theirs batch big: 0.002")


def test_a_rate_with_too_few_answers_for_a_p99_is_drawn_hollow_at_its_p95(
    opened: Open, tmp_path: Path
) -> None:
    point = LoadPoint(rate_per_s=75.0, seconds=2.0, p50_ms=5.0, p95_ms=9.0, kept_share=1.0)
    run = make_run(
        load={"onnx-int8": {"none": LoadTest(points=(point, dataclasses.replace(point, p99_ms=12.0)))}}
    )
    content = make_file(run) | {"datetime": "2026-03-01T12:00:00+00:00"}
    (tmp_path / "0001_run.json").write_text(json.dumps(content), encoding="utf8")
    page = opened(read_history(tmp_path))
    expect(page.locator("#n-load")).to_contain_text("A hollow marker is a p95 or p50")
    trace = page.evaluate("document.getElementById('load').data[0]")
    assert trace["y"] == [9.0, 12.0]
    assert [symbol.endswith("-open") for symbol in trace["marker"]["symbol"]] == [True, False]
    assert "p95 9 ms, p50 5 ms" in trace["hovertext"][0]


def test_a_run_without_load_says_so_in_its_place(opened: Open, tmp_path: Path) -> None:
    folder = write_history(tmp_path / "short", 2)
    (folder / "0002_run.json").unlink()
    expect(opened(read_history(folder)).locator("#load")).to_contain_text("No saved run of this kind has it")


def test_a_history_without_runs_has_no_page() -> None:
    with pytest.raises(RecordError, match="the history has no run that can be shown"):
        render_page(History(), 0.05)


def test_three_planted_shifts_are_on_the_page_and_no_other(tmp_path: Path) -> None:
    """8 % in noise of 3 %, among 1,000 runs: each within two runs of its place."""
    data = page_data(read_history(write_history(tmp_path / "history", 1000)), 0.05)
    [kind] = data["kinds"]
    changes = [
        (series["name"], change["at"], change["effect"])
        for series in kind["series"]["p50_ms"]
        for change in series["changes"]
    ]
    assert {name for name, _, _ in changes} == {"onnx-int8 batch 32"}
    for (_, at, effect), (planted, shift) in zip(changes, SHIFTS.items(), strict=True):
        assert abs(at - planted) <= 2
        assert effect == pytest.approx(shift, abs=0.02)
    others = [one for name, series in kind["series"].items() if name != "p50_ms" for one in series]
    assert [one["name"] for one in others if one["changes"]] == []


def test_a_series_knows_its_levels_and_what_changed_around_it(tmp_path: Path) -> None:
    write_history(tmp_path, 12, {})
    file = tmp_path / "0007_run.json"
    content = json.loads(file.read_text(encoding="utf8"))
    content["embedopt"]["machine"]["libraries"] = {"torch": "2.14.0", "onnxruntime": "1.33"}
    file.write_text(json.dumps(content), encoding="utf8")
    [kind] = page_data(read_history(tmp_path), 0.05)["kinds"]
    assert kind["runs"][6]["changed"] == ["torch 2.13.0 -> 2.14.0", "onnxruntime none -> 1.33"]
    assert kind["runs"][0]["changed"] == []
    [series] = [one for one in kind["series"]["p50_ms"] if one["name"] == "onnx-int8 batch 32"]
    [level] = series["levels"]
    assert (level["start"], level["stop"]) == (0, 12)
    assert level["low"] < min(series["value"]) < max(series["value"]) < level["high"]


def test_the_charts_of_a_part_of_a_run_have_older_answers(tmp_path: Path) -> None:
    folder = write_history(tmp_path / "history", 2, {})
    nothing: dict[str, Any] = {"accuracy": {}, "throughput": {}, "footprint": {}}
    part = make_file(make_run(part=Part(), **nothing))
    content = part | {"datetime": "2025-06-01T00:00:00", "benchmarks": []}
    (folder / "0003_run.json").write_text(json.dumps(content), encoding="utf8")
    data = page_data(read_history(folder), 0.05)
    latest = data["kinds"][0]["latest"]
    charts = {chart: (latest[chart]["run"], len(latest[chart]["rows"])) for chart in latest}
    assert charts["latency"] == (2, 9)
    assert charts["throughput"] == (2, 3)
    assert charts["load"] == (2, 4)
    [note] = data["notes"]
    assert note.startswith("older, from 0002_run.json: accuracy of onnx-int8, torch-fp32; footprint of ")


def test_the_rates_of_a_merged_run_are_drawn_as_of_one_machine(tmp_path: Path) -> None:
    """The reference ran half as fast beside ``onnx-int8`` as it does here: 250 texts/s."""
    slow = ShardReference(throughput=Throughput(texts_per_s=125))
    folder = write_history(tmp_path / "history", 0, {})
    content = make_file(make_run(shard_references={"onnx-int8": slow}))
    content["datetime"] = "2025-06-01T00:00:00"
    (folder / "0001_run.json").write_text(json.dumps(content), encoding="utf8")
    rows = page_data(read_history(folder), 0.05)["kinds"][0]["latest"]["throughput"]["rows"]
    rates = {row["backend"]: row["rate"] for row in rows}
    assert rates == {"torch-fp32": 250, "onnx-fp32": 400, "onnx-int8": 2500}
