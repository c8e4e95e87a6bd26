#!/usr/bin/python3
"""The page docs/bench/arm.md, of what arm_report.py and arm_tiles.py found.

    bench/arm/arm_page.py --counts build/bench/arm.json --tiles build/bench/arm_tiles.md --output build/bench/arm.md

Needs Python's standard library only.
"""
import argparse
import json
import pathlib
import sys

import arm_report

# Smallest milliseconds of "shufflenet_v2" (x1.0 at 224 x 224, batch 1) by one and by four threads, as published in
# benchmark/README.md of github.com/Tencent/ncnn at this commit.
NCNN_COMMIT = "08c2dac"
NCNN = [
    ("Snapdragon 855+", "Kryo 485 (Cortex-A76)", 6.66, 3.46),
    ("Kirin 970", "Cortex-A73", 33.97, 13.73),
    ("Raspberry Pi 4", "Cortex-A72", None, 33.00),
    ("Snapdragon 810", "Cortex-A57", 39.51, None),
    ("Snapdragon 410", "Cortex-A53", 88.62, 43.13),
]

MODELS = """\
llvm-mca simulates a loop with perfect caches and branches, so these are limits of the code, not times. Which model stands
behind a core's name:

- **Cortex-A76** is modelled as a Cortex-A57, by LLVM 14 and 19 alike (their scheduling tables give it that model): one
  vector multiply-add and one load a cycle, where the core does two of each. A share of that limit says little of the
  load ports.
- **Neoverse-N1** is the same core as the Cortex-A76, and LLVM 19 has a model of its own for it. Read this column for both.
- **Cortex-A53 and A55** have models of their own, in order; these columns compare loops with each other, not with silicon.
  LLVM 14 gives the A53's multiply-add ten cycles, and llvm-mca lets no instruction of its model finish before an earlier
  one, so that each load among multiply-adds costs about nine. The A55's model starts two 128-bit multiply-adds a cycle,
  where the core has 64 bits in each of two pipes: half of that limit is the core's. Kernels are compiled for any ARMv8
  core, in the order that suits wide ones.
"""


def extreme(result, choose, figure, stages):
    """The largest or smallest of a figure, and where it is."""
    found = [(figure(result["networks"][network][stage]), f"{stage} of {network}")
             for network in result["networks"] for stage in stages]
    return choose(found)


def wanted(result):
    """What is wanted of the kernels, and what was found in the worst place."""
    pointwise = ["stage2", "stage3", "stage4", "conv5"]
    rows = [
        ("vector multiply-adds (fmla), over the fewest that the shapes need", "at most 1.05",
         *extreme(result, max, lambda f: f["fmla_over_minimum"], arm_report.STAGES), "{:.3f}"),
        ("instructions for each fmla in the loops of pointwise convolutions", "at most 1.5",
         *extreme(result, max, lambda f: f["pointwise_loop_instructions_per_fmla"], pointwise), "{:.2f}"),
    ]
    for core in ("cortex-a76", "neoverse-n1"):
        if core in result["models"]:
            rows.append((f"share of the multiply-add limit, {core}", "at least 85 %",
                         *extreme(result, min, lambda f: f["share_of_limit"][core], arm_report.STAGES), "{:.0%}"))
    rows.append(("share of all fmla that those loops have", "nearly all",
                 *extreme(result, min, lambda f: f["fmla_in_inner_loops"], arm_report.STAGES), "{:.0%}"))
    lines = ["| what | wanted | worst found | where |", "|---|---|--:|---|"]
    for what, limit, value, where, form in rows:
        lines.append(f"| {what} | {limit} | {form.format(value).replace('%', ' %')} | {where} |")
    return "\n".join(lines) + "\n"


def published():
    lines = ["| board | core | 1 thread | 4 threads |", "|---|---|--:|--:|"]
    for board, core, one, four in NCNN:
        cells = [f"{ms:.2f}" if ms else "" for ms in (one, four)]
        lines.append(f"| {board} | {core} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(result, tiles):
    return f"""\
# ARM: what the kernels execute

Made by `{result['command']}` on an x86 host, without a board: all figures are counts, or follow from the code, and with the
same packages are the same on every machine. Times on a board: see [boards](#boards).

{wanted(result)}
The loop of the fully connected layer is a product of a matrix and a vector: each of its multiply-adds loads weights of its
own, so that two instructions an fmla are near its least.

## Counts

{arm_report.markdown(result)}
## Models

{MODELS}
## Tiles

One schedule serves all cores if the same tile is best, or near it, on each; so there is no second variant of the kernels.
Six pixels need more than the 32 registers, and the compiler spills. `schedules/arm.cpp` takes the largest tile that
divides the work evenly enough.

{tiles}
## Boards

Figures that ncnn published: x1.0 at 224 × 224, milliseconds, the minimum
(`benchmark/README.md` of Tencent/ncnn at {NCNN_COMMIT}).

{published()}
Ours, on any board that `ssh` reaches, into `build/bench/board.md`:

    ./dev bench-board --runner 'ssh user@board'

Nothing needs to be installed there. `--prefix 'taskset -c 4-7'` keeps to some cores; networks and threads are chosen by
`--filter`, for the line of the table `--filter 'shufflenet_v2_x1_0/batch:1/'`.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=pathlib.Path, required=True, help="JSON of arm_report.py")
    parser.add_argument("--tiles", type=pathlib.Path, required=True, help="Markdown of arm_tiles.py")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="file to write")
    args = parser.parse_args()
    try:
        result, tiles = json.loads(args.counts.read_text()), args.tiles.read_text()
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"arm_page: error: {error}")
    arm_report.write(args.output, page(result, tiles))
    print(args.output)


if __name__ == "__main__":
    main()
