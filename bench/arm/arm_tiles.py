#!/usr/bin/python3
"""Which register tile is best on which ARM core, by llvm-mca: whether one schedule serves them all.

    bench/arm/arm_tiles.py --compiler build/arm64/host/build/bin/shufflenet_compile [--markdown FILE]

Compiles a unit's kernel with every tile that is as wide as a panel of weights, and puts the inner loop of its last pointwise
convolution through the models of cores. Prints cycles for a hundred multiply-add instructions; less is better. Needs
what arm_report.py needs, but for qemu.
"""
import argparse
import json
import pathlib
import sys
import tempfile

import arm_report

# One unit as stage 3 of x1.0 has them, and as little else as a network can have.
NETWORK = ["--network", "shufflenet_v2", "--units", "2", "--channels", "116,232", "--input", "112,112"]
UNIT = "stage2_unit1_branch2"
TILES = [(pixels, 4) for pixels in range(2, 7)]


def loops_of(args, folder, pixels, vectors):
    """The inner loops, of four summands each, of pw2 with this tile."""
    kernels = arm_report.run([args.compiler, "--list-kernels", *NETWORK])
    key = next(line.split()[0] for line in kernels.splitlines() if UNIT in line.split())
    tuned = folder / "tuned.json"
    tuned.write_text(json.dumps({"target": args.isa, "kernels": {key: {"tile_pixels": pixels, "tile_vectors": vectors}}}))
    arm_report.run([args.compiler, *NETWORK, "--name", "tiles", "--targets", args.isa, "--tuned", tuned, "--objects",
                    "--quiet", "--output", folder])
    loops = []
    for name, code in arm_report.disassemble(folder / "tiles_kernels.o").items():
        if name.startswith(f"tiles_{args.isa}_{key}_par_for_pw2") and "_tail_" not in name:
            loops += [loop for loop in arm_report.inner_loops(code)
                      if sum(arm_report.by_lane(i) for i in loop) == 4 * pixels * vectors]
    if not loops:
        raise RuntimeError(f"{pixels} x {vectors}: no inner loop found")
    return loops


def measure(args, models):
    """Rows of a tile and what the worst of its loops takes: instructions, and cycles on each core."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for pixels, vectors in TILES:
            loops = loops_of(args, pathlib.Path(folder), pixels, vectors)
            products = 4 * pixels * vectors
            cells = [max(len(loop) for loop in loops) / products]
            for core, program in models:
                cells.append(100 / products * max(arm_report.cycles(program, core, arm_report.assembly_of(loop))
                                                  for loop in loops))
            rows.append((pixels, vectors, cells))
    return rows


def markdown(args, models, rows):
    best = [min(cells[i] for _, _, cells in rows) for i in range(len(models) + 1)]
    lines = [
        f"Register tiles of a pointwise convolution for {args.isa}, pixels x vectors of four channels: instructions for "
        "each fmla of the inner loop, and cycles for a hundred of them by llvm-mca, the fewest in bold.",
        "",
        "| tile | accumulators | instr. / fmla | " + " | ".join(f"{core} ({program})" for core, program in models) +
        " |",
        "|---|--:|--:|" + "--:|" * len(models),
    ]
    for pixels, vectors, cells in rows:
        texts = [f"{cells[0]:.2f}"] + [f"**{cell:.0f}**" if round(cell) <= round(low) else f"{cell:.0f}"
                                       for cell, low in zip(cells[1:], best[1:])]
        lines.append(f"| {pixels} x {vectors} | {pixels * vectors} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", type=pathlib.Path, required=True, help="shufflenet_compile of this machine")
    parser.add_argument("--isa", default="neon")
    parser.add_argument("--markdown", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    models = arm_report.usable_models(arm_report.MODELS)
    try:
        table = markdown(args, models, measure(args, models))
    except (OSError, RuntimeError) as error:
        sys.exit(f"arm_tiles: error: {error}")
    if args.markdown:
        arm_report.write(args.markdown, table)
    print(table)


if __name__ == "__main__":
    main()
