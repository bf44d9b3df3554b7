"""The tables that are shown on request hold every figure of a run, and dashes for what was not measured."""

from typing import Any

import pytest

from embedopt.judge.history.saved_runs import parse_run
from embedopt.records import Accuracy, LoadTest, SideBySideCase, Throughput, Turns
from embedopt.report.console import rendered
from embedopt.report.detail_tables import detail_tables
from tests.runs import make_file, make_load, make_run

_CALLS = """\
Calls with a whole batch
backend    batch p50 ms p95 ms p99 ms texts/s speed-up $/M texts
torch-fp32     1    2.0    3.0      -     100      1.0     0.139
torch-fp32    32   64.0   96.0      -     250      2.5     0.056
onnx-fp32      1    2.0    3.0      -     200      2.0     0.069
onnx-int8      1    2.0    3.0      -     500      5.0     0.028
onnx-int8     32   64.0   96.0      -   1,250     12.5     0.011
"""

_SCORES = """\
Retrieval, start and memory
                      top-10 1st percentile     clipped    cold peak
backend    recall@10 overlap     of cosines per million start s   MB
torch-fp32    0.5000  1.0000              -           -    4.50  600
onnx-int8     0.4900  0.9000         0.9850           -    0.25  150
"""

_LOAD_TESTS = """\
Under load: the highest requests/s with 99 % answered within 50 ms
                                                   $/M one by one  lowest MB grown in MB grown
backend    batching replicas requests/s speed-up texts    texts/s  cosine    overload  in soak
torch-fp32     none        2         40      1.0 0.347        600 0.97815           -        -
onnx-int8      none        2        400     10.0 0.035        600 0.97815           -        -
onnx-int8    window        2          -        -     -        600 0.97815           -        -
onnx-int8  adaptive        2        500     12.5 0.028        600 0.97815         2.3      0.5
"""

_ARRIVAL_RATES = """\
Under load: latency at each arrival rate (in time: answered within 50 ms)
                                                                        slowest generator sent late
backend    batching requests/s p50 ms p95 ms  p99 ms in time refused refusal ms       CPU  ms (p99)
torch-fp32     none         25   20.0   40.0    60.0  100.0%    0.0%          -      2.5%         -
torch-fp32     none         75  400.0  800.0 1,200.0  100.0%    0.0%          -      2.5%         -
onnx-int8      none        200    5.0   10.0    15.0  100.0%    0.0%          -      2.5%         -
onnx-int8    window        200      -      -       -       -       -          -  too late         -
onnx-int8  adaptive        200    5.0   10.0    15.0  100.0%    0.0%          -      2.5%         -
onnx-int8  adaptive        600   24.0   48.0    72.0  100.0%    0.0%          -      2.5%         -
onnx-int8  adaptive      1,500   25.0   40.0    48.5   30.0%   69.0%       0.25     10.0%         -
"""

_SOAK = """\
Under load: the highest requests/s with 99 % answered within {}
                                                  $/M one by one lowest MB grown in MB grown
backend   batching replicas requests/s speed-up texts    texts/s cosine    overload  in soak
onnx-int8 adaptive        {}          -        -     -          -      -           -      0.5
"""


def _tables(**changes: Any) -> list[str]:
    saved = parse_run("run", make_file(make_run(**changes)))
    return [rendered([shown], color=False) for shown in detail_tables(saved, 0.05)]


def test_calls_and_scores_have_a_table_each() -> None:
    assert _tables() == [_CALLS, _SCORES]


def test_bulk_has_a_table() -> None:
    bulk = Throughput(bulk_per_s=812.4, bulk_share=0.975, bulk_resume_s=0.56, bulk_peak_bytes=390_000_000)
    assert _tables(throughput={"onnx-int8": bulk})[-1] == (
        "Bulk: from Parquet to Parquet\n"
        "                     of it peak\n"
        "backend   texts/s encoding   MB resume s\n"
        "onnx-int8     812    97.5%  390     0.56\n"
    )


def test_load_tests_have_a_table_of_highest_rates_and_one_of_arrival_rates() -> None:
    assert _tables(load=make_load()) == [_CALLS, _SCORES, _LOAD_TESTS, _ARRIVAL_RATES]


@pytest.mark.parametrize(
    ("known", "within", "replicas"),
    [({"replicas": 2, "promise_ms": 50.0}, "50 ms", "2"), ({}, "the promised time", "-")],
)
def test_a_soak_alone_is_a_row_without_arrival_rates(
    known: dict[str, Any], within: str, replicas: str
) -> None:
    load = {"onnx-int8": {"adaptive": LoadTest(soak_growth_bytes=500_000, **known)}}
    assert _tables(load=load) == [_CALLS, _SCORES, _SOAK.format(within, replicas)]


def test_turns_show_ratios_with_their_range() -> None:
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
    assert _tables(side_by_side={"short": case}, accuracy={}, footprint={})[1:] == [
        "Side by side on short texts: 400 of 12.2 tokens, 2 turns each\n"
        "                                        onnx-int8                             share of\n"
        "backend    texts/s speed-up     (range)   over it       (range) p50 ms p99 ms roofline\n"
        "onnx-int8    1,600     21.0 (20.0-22.0)      1.00   (1.00-1.00)    2.0    4.0    49.0%\n"
        "torch-fp32     150      2.0   (2.0-2.0)     10.50 (10.00-11.00)      -      -        -\n"
    ]


def test_spearman_has_two_decimals_and_its_difference_to_the_reference() -> None:
    accuracy = {
        "onnx-int8": Accuracy(spearman=81.919, spearman_distance=-0.115),
        "torch-fp32": Accuracy(spearman=82.034, spearman_distance=0.0),
    }
    [_, scores] = _tables(accuracy=accuracy, footprint={})
    assert [line.split() for line in scores.splitlines()[-2:]] == [
        ["torch-fp32", *"------", "82.03", "0.00"],
        ["onnx-int8", *"------", "81.92", "-0.12"],
    ]
