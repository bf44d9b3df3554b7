"""Made-up verdicts: one of each outcome."""

from embedopt.judge.gate.verdict import Verdict

SLOWER = Verdict(
    backend="onnx-int8",
    batch_size=8,
    metric="latency",
    outcome="regressed",
    effect=0.051,
    interval=(0.043, 0.059),
    smallest_effect=0.03,
    pairs=12,
)
LESS_ACCURATE = Verdict(
    backend="onnx-int8", metric="cosine_mean", outcome="regressed", effect=-0.0318, why="0.9923 -> 0.9605"
)
OPEN = Verdict(backend="b", batch_size=1, metric="latency", outcome="inconclusive", why="few pairs")
SAME = Verdict(backend="a", metric="disk_bytes", outcome="equivalent", effect=0.0)
GONE = Verdict(backend="[b]", metric="", outcome="not comparable", why="the base has no [b]")
