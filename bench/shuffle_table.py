#!/usr/bin/python3
"""bench_shuffle's JSON as a Markdown table: shuffle_table.py shuffle.json shuffle.md"""
import json
import pathlib
import statistics
import sys


def times_of(benchmarks):
    """Microseconds by (network, stage, threads) and version."""
    times = {}
    for bench in benchmarks:
        if bench["run_type"] == "iteration":
            _, network, stage, version, threads = bench["name"].removesuffix("/manual_time").split("/")[:5]
            case = times.setdefault((network, stage, threads.removeprefix("threads:")), {})
            case.setdefault(version, []).append(bench["real_time"])
    return times


def markdown(result):
    lines = ["All basic units of a stage, microseconds, minimum / median of the repetitions, weights warm. slots: "
             "channels are read where earlier units left them; fused: the last convolution stores concat and shuffle.", "",
             "| network | stage | threads | slots | fused | fused / slots |", "|---|---|--:|--:|--:|--:|"]
    for (network, stage, threads), case in sorted(times_of(result["benchmarks"]).items()):
        slots, fused = [(min(case[v]), statistics.median(case[v])) for v in ("slots", "fused")]
        cells = [f"{low:.1f} / {middle:.1f}" for low, middle in (slots, fused)]
        ratio = " / ".join(f"{f / s:.2f}" for f, s in zip(fused, slots))
        lines.append(f"| {network} | {stage} | {threads} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def main():
    source, output = map(pathlib.Path, sys.argv[1:])
    table = markdown(json.loads(source.read_text()))
    temporary = output.with_suffix(output.suffix + ".new")
    temporary.write_text(table)
    temporary.rename(output)
    print(table)


if __name__ == "__main__":
    main()
