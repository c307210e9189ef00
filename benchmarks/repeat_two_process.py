"""Whether two-process runs ever hang or differ: the same launch again and again, compared value for value.

python benchmarks/repeat_two_process.py --repeats 20
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.distributed.launching import launch


def comparable(ranks: list[dict[str, Any]]) -> str:
    """Everything that the ranks wrote except times, as text, so that NaN equals NaN."""
    timed = ("time", "per_second")
    return repr(
        [
            rank
            | {"logs": [{k: v for k, v in line.items() if not any(t in k for t in timed)} for line in rank["logs"]]}
            for rank in ranks
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--launcher", default="torchrun", help="torchrun, cpu_ddp, cpu_zero2 or cpu_zero3")
    parser.add_argument("--scenario", default="train", help="a scenario of tests/distributed/worker.py")
    parser.add_argument("--timeout", type=float, default=420.0, help="seconds after which a run counts as hanging")
    arguments = parser.parse_args()
    first, failures = None, 0
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(1, arguments.repeats + 1):
            started = time.monotonic()
            try:
                ranks = launch(
                    arguments.launcher, arguments.scenario, Path(folder) / str(repeat), timeout=arguments.timeout
                )
            except RuntimeError as error:
                failures += 1
                print(f"{repeat:3d}  no result: {error}", flush=True)
                continue
            found = comparable(ranks)
            first = first or found
            same_ranks = all(rank["selections"] == ranks[0]["selections"] for rank in ranks)
            failures += found != first or not same_ranks
            verdict = "same" if found == first and same_ranks else "DIFFERENT"
            print(f"{repeat:3d}  {verdict}  {time.monotonic() - started:.1f} s", flush=True)
    print(f"{arguments.repeats} runs, {failures} hung or different")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
