"""Which quads of a process pair were disturbed: other processes took the CPU, or the hypervisor did.

Only CPU time of others counts. What the threads of a worker take from each other is its own doing, and a head
that does more of it is slower.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

# The system counts each kind of CPU time in steps of 10 ms: over 0.2 s, that of others is known to about 7 %
# of a core.
_BLOCK_S, _LARGEST_SHARE = 0.2, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Quad:
    """Seconds that a quad took, and CPU seconds of others in them."""

    seconds: float
    others_s: float


def calm(quads: Sequence[Quad]) -> tuple[list[bool], int]:
    """Return which quads count, and how many were disturbed.

    Where more than half are disturbed, all count: that may be the doing of what is measured, such as a server
    that no worker has started. Short quads in a row are judged together, as a block.
    """
    numbers = _blocks(quads)
    shares = []
    for _, block in itertools.groupby(zip(numbers, quads, strict=True), key=lambda pair: pair[0]):
        together = [quad for _, quad in block]
        taken = sum(quad.others_s for quad in together) / max(
            sum(quad.seconds for quad in together), _BLOCK_S
        )
        shares += [taken] * len(together)
    disturbed = [share > _LARGEST_SHARE for share in shares]
    all_count = 2 * sum(disturbed) > len(quads)
    return [all_count or not is_disturbed for is_disturbed in disturbed], sum(disturbed)


def _blocks(quads: Sequence[Quad]) -> list[int]:
    """Return the number of each quad's block: quads that begin in the same 0.2 s share one."""
    before_s = itertools.accumulate((quad.seconds for quad in quads[:-1]), initial=0.0)
    return [int(seconds / _BLOCK_S) for seconds in before_s]
