"""A cluster of two nodes on this machine, one of which is killed while it encodes.

In a process of its own: Ray leaves threads and warnings behind.
"""

import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from embedopt.bulk.encode import encode_files
from embedopt.bulk.job import Columns, EmbedderOptions, Job
from embedopt.bulk.progress import Progress


def main(source: str, output: str, model: str) -> None:
    """Encode on two nodes of one CPU; kill the second one when the first part is done."""
    # A node that answers no longer is dead after 2.5 s, not after 15.
    config = {"health_check_period_ms": 500, "health_check_failure_threshold": 5}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": config}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    killed: list[object] = []

    class KillsANode(Progress):
        def advance(self, rows: int) -> None:
            if not killed:
                killed.append(cluster.remove_node(second, allow_graceful=False))
            super().advance(rows)

    job = Job(
        inputs=(source,),
        output=Path(output),
        columns=Columns(id="doc"),
        embedder=EmbedderOptions(backend="onnx-fp32", model=model),
        ray=cluster.address,
        part_rows=20,
        chunk_rows=10,
    )
    totals = encode_files(job, KillsANode())
    cluster.shutdown()
    print(f"killed {len(killed)}, {totals.rows} rows in {totals.parts} parts")


if __name__ == "__main__":
    main(*sys.argv[1:])
