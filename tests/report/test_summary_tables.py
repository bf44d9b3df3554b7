"""The tables fit 100 columns, are plain where they must be, and say what is missing."""

from typing import Any

import pytest

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import SavedRun, parse_run
from embedopt.judge.recommend import Requirements, candidates, cheapest, with_pareto_front
from embedopt.records import Accuracy, BackendInfo, LoadTest, Model, SideBySideCase, Turns
from embedopt.report.summary_tables import (
    render_comparisons,
    render_recommendation,
    render_summary,
    render_tuning,
)
from embedopt.schema import to_json
from embedopt.trial import Trial
from tests.runs import make_file, make_load, make_run

_EXPECTED = """\
Key results (times in ms, of one call with a whole batch)
backend    batch  p50  p95 p99 texts/s    x   MB cosine    min  invar.   $/M
torch-fp32     1  2.0  3.0   -     100  1.0 91.6 1.0000 1.0000       - 0.139
              32 64.0 96.0   -     250  2.5                            0.056
onnx-fp32      1  2.0  3.0   -     200  2.0    -      -      -       - 0.069
onnx-int8      1  2.0  3.0   -     500  5.0 23.4 0.9934 0.9811 0.98432 0.028
              32 64.0 96.0   -   1,250 12.5                            0.011

Where the speed comes from: x = runtime x precision x batching x padding
backend        x runtime precision batching padding padded in order planned
torch-fp32  2.50    1.00      1.00     2.00    1.25           50.0%   20.0%
onnx-fp32   4.00    2.00      1.00     1.50    1.33           50.0%   20.0%
onnx-int8  12.50    2.00      2.50     2.00    1.25           50.0%   20.0%

What a search finds, and what it takes to start
backend    recall@10 top-10 overlap cosine p1 load s peak MB
torch-fp32    0.5000         1.0000         -   4.50     600
onnx-int8     0.4900         0.9000    0.9850   0.25     150

full profile on Test CPU | avx2+vnni | 2 cores | 2 threads
model tiny (aaaaaaaaaaaa)
corpus corpus (bbbbbbbbbbbb): 805 texts, 23.5 tokens on average
x: texts/s over torch-fp32 one by one     $/M: dollars per million texts
invar.: worst cosine of a text encoded alone to itself among 31 others
*: no other backend is as fast and as near to the reference, and better in one
-: not measured, or too few calls for an interval (a p95 takes 72, a p99 368)
"""


def test_the_summary() -> None:
    assert render_summary(parse_run("run", make_file(make_run())), 0.05) == _EXPECTED


def test_side_by_side() -> None:
    case = SideBySideCase(
        texts=400,
        mean_tokens=12.25,
        turns={
            "torch-fp32": Turns(texts_per_s=(100, 200), one_by_one_per_s=(50, 100)),
            "onnx-int8": Turns(texts_per_s=(1000, 2200), one_by_one_per_s=(400, 400), p50_ms=2.0, p99_ms=4.0),
        },
        roofline_per_s={"int8": (40e6, 40e6)},
        operations_per_token=1000,
        default="onnx-int8",
    )
    run = make_run(side_by_side={"short": case}, accuracy={}, footprint={})
    assert render_summary(parse_run("run", make_file(run)), 0.05).split("\n\n")[2] == (
        "Side by side on short texts: 400 of 12.2 tokens, 2 turns each\n"
        "backend    texts/s    x     (range) onnx-int8 is x       (range) p50 p99 of roof\n"
        "onnx-int8    1,600 21.0 (20.0-22.0)           1.00   (1.00-1.00) 2.0 4.0   49.0%\n"
        "torch-fp32     150  2.0   (2.0-2.0)          10.50 (10.00-11.00)   -   -       -"
    )


_LOAD = """\
Under load: the highest rate with 99 % answered within 50 ms
backend    batching replicas texts/s    x   $/M one by one worst cosine 3x MB soak MB
torch-fp32     none        2      40  1.0 0.347        600      0.97815     -       -
onnx-int8      none        2     400 10.0 0.035        600      0.97815     -       -
onnx-int8    window        2       -    -     -        600      0.97815     -       -
onnx-int8  adaptive        2     500 12.5 0.028        600      0.97815   2.3     0.5

Latency in ms over arrival rate (kept: of all requests, within the promise)
backend    batching rate/s   p50   p95     p99   kept refused slowest refusal sender
torch-fp32     none     25  20.0  40.0    60.0 100.0%    0.0%               -   2.5%
                        75 400.0 800.0 1,200.0 100.0%    0.0%               -   2.5%
onnx-int8      none    200   5.0  10.0    15.0 100.0%    0.0%               -   2.5%
onnx-int8    window    200     -     -       -      -       -               -   late
onnx-int8  adaptive    200   5.0  10.0    15.0 100.0%    0.0%               -   2.5%
                       600  24.0  48.0    72.0 100.0%    0.0%               -   2.5%
                     1,500  25.0  40.0    48.5  30.0%   69.0%            0.25  10.0%

"""


def test_load_has_tables_of_its_own() -> None:
    rendered = render_summary(parse_run("run", make_file(make_run(load=make_load()))), 0.05)
    assert rendered.replace(_LOAD, "") == _EXPECTED
    assert rendered.count(_LOAD) == 1


_SOAK = """\
Under load: the highest rate with 99 % answered within {}
backend   batching replicas texts/s x $/M one by one worst cosine 3x MB soak MB
onnx-int8 adaptive        {}       - -   -          -            -     -     0.5

"""


@pytest.mark.parametrize(
    ("known", "shown"),
    [({"replicas": 2, "promise_ms": 50.0}, _SOAK.format("50 ms", 2)), ({}, _SOAK.format("the promise", "-"))],
)
def test_a_soak_alone_is_a_row_without_a_curve(known: dict[str, Any], shown: str) -> None:
    run = make_run(load={"onnx-int8": {"adaptive": LoadTest(soak_growth_bytes=500_000, **known)}})
    rendered = render_summary(parse_run("run", make_file(run)), 0.05)
    assert rendered.count(shown) == 1
    assert rendered.replace(shown, "") == _EXPECTED


def test_the_pareto_front_is_marked() -> None:
    run = with_pareto_front(make_run())
    lines = render_summary(parse_run("run", make_file(run)), 0.05).splitlines()
    assert [line.split()[:2] for line in lines[2:7] if line[0] != " "] == [
        ["torch-fp32", "*"],
        ["onnx-fp32", "1"],
        ["onnx-int8", "*"],
    ]


def test_a_recommendation() -> None:
    found = candidates(parse_run("run", make_file(make_run())))
    assert render_recommendation(cheapest(found, Requirements(max_mb=91.6)), "run.json") == (
        "onnx-int8: 1,250 texts/s (measured in run.json)\n"
        "  5.00x torch-fp32, which would do too\n"
        "  not onnx-fp32: not measured (--max-mb)\n"
    )
    assert render_recommendation(cheapest(found, Requirements(max_mb=30, min_cosine=0.995)), "run.json") == (
        "no backend measured in run.json meets all that is asked\n"
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
    lines = render_summary(parse_run("run", file), 0.05).splitlines()
    assert max(map(len, lines)) <= 100
    assert "12,345.6" in lines[2]
    assert "123,456" in lines[2]


def test_colour_only_where_it_is_asked_for() -> None:
    saved = parse_run("run", make_file(make_run()))
    assert "\x1b[" not in render_summary(saved, 0.05)
    assert "\x1b[" in render_summary(saved, 0.05, color=True)


def test_a_name_is_text_not_markup() -> None:
    file = make_file(make_run(model=Model(name="[red]x[/red]", digest="a" * 64)))
    file["benchmarks"][0]["extra_info"]["backend"] = "[bold]b"
    rendered = render_summary(parse_run("run", file), 0.05)
    assert "[bold]b" in rendered
    assert "model [red]x[/red] (aaaaaaaaaaaa)" in rendered


def test_spearman_is_shown_to_two_decimals_whatever_else_was_measured() -> None:
    accuracy = {
        "onnx-int8": Accuracy(spearman=81.919, spearman_distance=-0.115),
        "torch-fp32": Accuracy(spearman=82.034, spearman_distance=0.0),
    }
    run = make_run(accuracy=accuracy, footprint={}, throughput={})
    rendered = render_summary(parse_run("run", {"benchmarks": [], "embedopt": to_json(run)}), 0.05)
    assert rendered.splitlines()[2].split() == ["torch-fp32", *"-----", "82.03", "0.00"]
    [line] = (line for line in rendered.splitlines() if line.startswith("onnx-int8") and "81.92" in line)
    assert line.split()[-2:] == ["81.92", "-0.12"]


def test_a_run_without_latencies_says_so() -> None:
    assert (
        render_summary(parse_run("x.json", {"benchmarks": []}), 0.05)
        == "x.json: nothing that this suite measured in it\n"
    )


def test_a_file_without_our_record_shows_its_latencies() -> None:
    rendered = render_summary(parse_run("run", make_file(None)), 0.05)
    assert rendered.splitlines()[0] == "Key results (times in ms, of one call with a whole batch)"
    assert "Where the speed comes from" not in rendered


def test_whether_runs_can_be_compared() -> None:
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
    assert render_comparisons(bases, head).splitlines() == [
        "E can't be compared with this one: no benchmark is in both",
        "compared with A: same hardware class, model, corpus and profile; 10 of 10 benchmarks are in both",
        "B can't be compared with this one, whatever the table above shows:",
        "  its model is other (cccccccccccc), this one's is tiny (aaaaaaaaaaaa)",
        "C has no embedopt record: whether it can be compared is not known; 10 of 10 benchmarks are in both",
        "D is old",
    ]


@pytest.mark.parametrize("color", [True, False])
def test_nothing_to_compare_with(color: bool) -> None:
    head = parse_run("this run", make_file(make_run()))
    assert render_comparisons([], head) == (
        "nothing to compare with yet: no earlier run that can be read; this one is saved for the next\n"
    )


def test_settings_do_not_show_but_are_kept() -> None:
    info = BackendInfo(precision="int8", base=None, settings={"session.intra_op.allow_spinning": "0"})
    assert parse_run("run", make_file(make_run(backends={"x": info}))).run == make_run(backends={"x": info})


_TUNED = """\
onnx-int8, throughput
setting                           value x default  95 % interval rounds
batch_tokens                        512     1.000              -      7
                                   1024     1.084 1.051 to 1.118      7 kept
disabled_optimizers SkipLayerNormFusion         -              -      3 kept
                                   none         -              -      3
disabled_optimizers: the budget was too small for it, so the default stays
"""


def test_what_was_tuned() -> None:
    """A setting is named once; where there was no time for it, that is said."""

    def trial(value: str | int, default: bool, kept: bool, **found: Any) -> Trial:
        setting = "batch_tokens" if found else "disabled_optimizers"
        rounds = 7 if found else 3
        return Trial(setting=setting, value=value, default=default, kept=kept, rounds=rounds, **found)

    trials = [
        trial(512, True, False, speed_up=1.0),
        trial(1024, False, True, speed_up=1.084, speed_up_ci=(1.051, 1.118)),
        trial("SkipLayerNormFusion", True, True),
        trial("", False, False),
    ]
    assert render_tuning("onnx-int8, throughput", trials) == _TUNED
