"""What every script of an engine shares: its arguments, and the figures it prints of itself.

A script is called JOB INPUT OUTPUT THREADS. Importing the engine is not measured; CPU time is that of the whole process while the job ran."""

import json
import sys
import time
from pathlib import Path


def arguments():
    job, source, output, threads = sys.argv[1:5]
    return job, Path(source), Path(output), int(threads)


def peak_mb():
    status = Path("/proc/self/status").read_text()
    kib = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return int(kib) * 1024 // 1_000_000


def run(work):
    """Measures work(). Where it answers with a function, that writes the answer afterwards, unmeasured."""
    wall, cpu = time.perf_counter(), time.process_time()
    later = work()
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_mb": peak_mb()}
    if callable(later):
        later()
    print(json.dumps(figures))
