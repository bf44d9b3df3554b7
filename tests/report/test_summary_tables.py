"""The summary fits one screen of 100 columns, is plain where it must be, and says what is missing."""

from typing import Any

from embedopt.conditions import Model
from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.judge.recommend import Requirements, candidates, cheapest, with_pareto_front
from embedopt.records import Run
from embedopt.report.summary_tables import (
    render_comparisons,
    render_recommendation,
    render_summary,
    render_tuning,
)
from embedopt.schema import to_json
from embedopt.trial import Trial
from tests.runs import make_file, make_load, make_run

_KEY_RESULTS = """\
Key results: latency of a call at batch size 1, texts/s at 1 or 32
                                                   $/M        mean lowest  in any
backend    p50 ms p95 ms p99 ms texts/s speed-up texts   MB cosine cosine   batch
torch-fp32    2.0    3.0      -     250      2.5 0.056 91.6 1.0000 1.0000       -
onnx-fp32     2.0    3.0      -     200      2.0 0.069    -      -      -       -
onnx-int8     2.0    3.0      -   1,250     12.5 0.011 23.4 0.9934 0.9811 0.98432

"""
_SPEED_UP = """\
Where the speed comes from: speed-up = runtime x precision x batching x padding
backend    speed-up runtime precision batching padding padded in order padded by length
torch-fp32     2.50    1.00      1.00     2.00    1.25           50.0%            20.0%
onnx-fp32      4.00    2.00      1.00     1.50    1.33           50.0%            20.0%
onnx-int8     12.50    2.00      2.50     2.00    1.25           50.0%            20.0%

"""
_UNDER_LOAD = """\
Under load: the highest requests/s with 99 % answered within 50 ms, by way of batching
backend    none window adaptive
torch-fp32   40      -        -
onnx-int8   400      -      500

"""
_NOTES = """\
full profile on Test CPU | avx2+vnni | 2 cores | 2 threads
model tiny (aaaaaaaaaaaa), corpus corpus (bbbbbbbbbbbb): 805 texts of 23.5 tokens
speed-up: texts/s over torch-fp32 one by one; $/M texts: dollars per million texts at $0.05 an hour
in any batch: lowest cosine between a text encoded alone and the same text among 31 others
*: no other backend is as fast and as near to the reference, and better in one
-: not measured, or too few calls for an interval (a p95 takes 72, a p99 368)
"""
_MORE = "more tables: pytest -v, or embedopt summary RUN.json --all\n"


def _summary(run: Run | None, *, everything: bool = False) -> str:
    return render_summary(parse_run("run", make_file(run)), 0.05, everything=everything)


def test_the_summary_shows_what_decides_and_where_the_rest_is() -> None:
    assert _summary(make_run()) == _KEY_RESULTS + _SPEED_UP + _NOTES + _MORE


def test_load_tests_add_their_highest_rates() -> None:
    assert _summary(make_run(load=make_load())) == _KEY_RESULTS + _SPEED_UP + _UNDER_LOAD + _NOTES + _MORE


def test_everything_is_the_same_tables_and_more() -> None:
    rendered = _summary(make_run(load=make_load()), everything=True)
    assert rendered.startswith(_KEY_RESULTS + _SPEED_UP + _UNDER_LOAD + "Calls with a whole batch\n")
    assert rendered.endswith("\n\n" + _NOTES)
    assert "Under load: latency at each arrival rate" in rendered


def test_the_tables_that_decide_between_eleven_backends_have_41_lines_of_100_columns() -> None:
    """Then a verdict of nine lines fits the same screen of 50."""
    names = ["torch-fp32", *(f"onnx-int8-per-tensor{index}"[-20:] for index in range(10))]
    run = make_run()
    file = make_file(
        make_run(
            hardware_class="AMD EPYC (family 26 model 2) | avx2+avx512+vnni+bf16 | 2 cores | 2 threads",
            model=Model(name="all-MiniLM-L6-v2", digest="a" * 64),
            backends=dict.fromkeys(names, run.backends["torch-fp32"]),
            throughput=dict.fromkeys(names, run.throughput["torch-fp32"]),
            load=make_load(),
        )
    )
    extras = [bench["extra_info"] for bench in file["benchmarks"][:4]]
    file["benchmarks"] = [
        {"fullname": name, "extra_info": extra | {"backend": name}} for name in names for extra in extras
    ]
    lines = render_summary(parse_run("run", file), 0.05, everything=False).splitlines()
    assert len(lines) == 41
    assert max(map(len, lines)) <= 100


def test_the_pareto_front_is_marked() -> None:
    run = with_pareto_front(make_run())
    assert [line.split()[:2] for line in _summary(run).splitlines()[3:6]] == [
        ["torch-fp32", "*"],
        ["onnx-fp32", "2.0"],
        ["onnx-int8", "*"],
    ]


def test_a_recommendation_names_the_margin_and_what_the_others_miss() -> None:
    measured = candidates(parse_run("run", make_file(make_run())))
    assert render_recommendation(cheapest(measured, Requirements(max_mb=91.6)), "run.json") == (
        "onnx-int8: 1,250 texts/s (measured in run.json)\n"
        "  5.00x torch-fp32, which meets them too\n"
        "  not onnx-fp32: not measured (--max-mb)\n"
    )
    assert render_recommendation(
        cheapest(measured, Requirements(max_mb=30, min_cosine=0.995)), "run.json"
    ) == (
        "no backend measured in run.json meets all requirements\n"
        "  without --min-cosine: onnx-int8\n"
        "  without --max-mb: torch-fp32\n"
        "  not onnx-int8: mean cosine 0.9934 (--min-cosine)\n"
        "  not onnx-fp32: not measured (--min-cosine), not measured (--max-mb)\n"
        "  not torch-fp32: 91.6 MB (--max-mb)\n"
    )


def test_the_summary_fits_100_columns_with_the_longest_name_and_large_figures() -> None:
    file = make_file(make_run())
    for bench in file["benchmarks"]:
        extra = bench["extra_info"]
        extra.update(backend="onnx-int8-per-tensor", texts_per_s=123_456.0)
        extra.update({name: 12_345.6 for name in ("p50_ms", "p95_ms", "p99_ms") if name in extra})
    del file["benchmarks"][-1]
    lines = render_summary(parse_run("run", file), 0.05, everything=False).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[3].split()[:5] == ["onnx-int8-per-tensor", "12,345.6", "12,345.6", "12,345.6", "123,456"]


def test_there_are_colours_only_on_request() -> None:
    saved = parse_run("run", make_file(make_run()))
    assert "\x1b[" not in render_summary(saved, 0.05, everything=True)
    assert "\x1b[" in render_summary(saved, 0.05, everything=True, color=True)


def test_a_name_is_text_not_markup() -> None:
    file = make_file(make_run(model=Model(name="[red]x[/red]", digest="a" * 64)))
    file["benchmarks"][0]["extra_info"]["backend"] = "[bold]b"
    rendered = render_summary(parse_run("run", file), 0.05, everything=False)
    assert "[bold]b" in rendered
    assert "model [red]x[/red] (aaaaaaaaaaaa), " in rendered


def test_a_run_without_latencies_shows_all_it_has() -> None:
    run = make_run(throughput={})
    rendered = render_summary(
        parse_run("run", {"benchmarks": [], "embedopt": to_json(run)}), 0.05, everything=False
    )
    assert rendered.startswith("Retrieval, start and memory\n")
    assert rendered.endswith("\n\n" + _NOTES)


def test_a_run_without_anything_says_so() -> None:
    assert (
        render_summary(parse_run("x.json", {"benchmarks": []}), 0.05, everything=False)
        == "x.json holds nothing that this suite measured\n"
    )


def test_a_file_without_our_record_shows_its_latencies() -> None:
    assert _summary(None).splitlines()[0].startswith("Key results: latency of a call at batch size 1,")
    assert "Where the speed comes from" not in _summary(None)


def test_each_stored_run_is_said_to_be_comparable_or_why_not() -> None:
    head = parse_run("this run", make_file(make_run()))
    other = parse_run("B", make_file(make_run(model=Model(name="other", digest="c" * 64))))
    unlike = parse_run("E", {"benchmarks": [{"fullname": "test_sort", "extra_info": {}}]})
    bases: list[SavedRun | RecordError] = [
        unlike,
        parse_run("A", make_file(make_run())),
        other,
        parse_run("C", make_file(None)),
        RecordError("D is old"),
    ]
    assert render_comparisons(bases, head, ["A"]).splitlines() == [
        "E can't be compared with this one: no benchmark is in both",
        "compared with A: same hardware class, model, corpus and profile; 10 of 10 benchmarks are in both",
        "B can't be compared with this one, whatever the table above shows:",
        "  its model is other (cccccccccccc), this one's is tiny (aaaaaaaaaaaa)",
        "C has no embedopt record, so whether it can be compared is unknown; 10 of 10 benchmarks are in both",
        "D is old",
    ]


def test_a_first_run_has_nothing_to_compare_with() -> None:
    head = parse_run("this run", make_file(make_run()))
    nothing = "nothing to compare with yet: no earlier run that can be read; this one is saved for the next\n"
    assert render_comparisons([], head, []) == nothing
    assert render_comparisons([], head, [], "--benchmark-compare=9999") == nothing


def test_a_named_run_that_is_not_there_is_said_to_be_missing() -> None:
    head, names = parse_run("this run", make_file(make_run())), [f"000{day}_a.json" for day in range(1, 8)]
    assert render_comparisons([], head, names, "--benchmark-compare=9999") == (
        "no run that can be read is --benchmark-compare=9999; wanted one of these: 0001_a.json, 0002_a.json, "
        "0003_a.json, 0004_a.json, 0005_a.json and 2 more\n"
    )


def test_a_figure_that_is_no_number_is_a_dash_with_its_reason() -> None:
    run = make_run(accuracy={}, not_measured={"accuracy onnx-int8 cosine_mean": "came out as nan"})
    lines = _summary(run).splitlines()
    assert lines[-2] == "not measured: accuracy onnx-int8 cosine_mean came out as nan"
    [row] = [line for line in lines if line.startswith("onnx-int8  ")][:1]
    assert row.split()[-3:] == ["-", "-", "-"]


_TUNED = """\
onnx-int8, throughput
setting                           value speed-up  95 % interval rounds
batch_tokens                        512    1.000              -      7
                                   1024    1.084 1.051 to 1.118      7 kept
disabled_optimizers SkipLayerNormFusion        -              -      3 kept
                                   none        -              -      3
disabled_optimizers: the budget was too small to decide, so the default stays
"""


def test_a_search_for_settings_is_a_table_of_its_races() -> None:
    """A setting is named once, and a line names those that the budget was too small for."""

    def trial(value: str | int, default: bool, kept: bool, **speed_up: Any) -> Trial:
        setting = "batch_tokens" if speed_up else "disabled_optimizers"
        rounds = 7 if speed_up else 3
        return Trial(setting=setting, value=value, default=default, kept=kept, rounds=rounds, **speed_up)

    trials = [
        trial(512, True, False, speed_up=1.0),
        trial(1024, False, True, speed_up=1.084, speed_up_ci=(1.051, 1.118)),
        trial("SkipLayerNormFusion", True, True),
        trial("", False, False),
    ]
    assert render_tuning("onnx-int8, throughput", trials) == _TUNED
