"""Print the machine's speed in one line, to compare runs on different machines.

python scripts/machine_speed.py
"""

import os
import statistics
import time

import numpy as np


def main() -> None:
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype("float32")
    # Larger than any cache, so that reading it measures memory.
    b = np.ones(32 * 2**20, "float32")
    a @ a
    products, sums = [], []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        products.append(2 * 2048**3 / (time.perf_counter() - began))
        began = time.perf_counter()
        b.sum()
        sums.append(b.nbytes / (time.perf_counter() - began))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gflops = statistics.median(products) / 1e9
    gigabytes = statistics.median(sums) / 1e9
    print(
        f"This machine: {cores} cores; {gflops:.0f} GFLOP/s in a float32 matrix product; "
        f"one core reads {gigabytes:.1f} GB/s."
    )


if __name__ == "__main__":
    main()
