#!/usr/bin/python3
"""The autotuner for an ARM board: kernels are made here, and timed there.

    bench/arm/board_autotune.py --build build/arm64 --sysroot build/arm64-sysroot --runner 'ssh user@board' \\
        --autotune build/x86/bin/autotune --model shufflenet_v2_x1_0 --target neon --budget 600

What it does not know are options of the autotuner. The runner is as in board.py; the timing program and its libraries
are on the board as long as the search takes. Needs what board.py needs, and aarch64-linux-gnu-g++.
"""
import argparse
import pathlib
import shlex
import subprocess
import sys

import board


def tune(args, options):
    """The autotuner's exit status."""
    program = args.build / "bin" / "kernel_trial"
    files = {"kernel_trial": program, **board.libraries_of(program, args.sysroot)}
    with board.Board(args.runner) as there:
        print(f"copying {len(files)} files", file=sys.stderr)
        there.unpack(board.packed(files))
        folder = shlex.quote(there.folder)
        trial = f"{args.prefix} {folder}/{board.LOADER} --library-path {folder} {folder}/kernel_trial".strip()
        # One word, because it goes through this machine's shell to the runner.
        command = [args.autotune, "--compiler", args.compiler, "--runner", args.runner, "--trial", shlex.quote(trial)]
        return subprocess.run([*command, *options]).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder of the preset arm64")
    parser.add_argument("--sysroot", type=pathlib.Path, required=True, help="folder with the target's libraries")
    parser.add_argument("--autotune", type=pathlib.Path, required=True, help="the autotuner of this machine's preset")
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++", help="what assembles and links the board's kernels")
    parser.add_argument("--runner", required=True, help="command that runs a shell command on the board")
    parser.add_argument("--prefix", default="", help="what the program runs under there, e.g. 'taskset -c 4-7'")
    args, options = parser.parse_known_args()
    try:
        sys.exit(tune(args, options))
    except (OSError, RuntimeError) as error:
        sys.exit(f"board_autotune: error: {error}")


if __name__ == "__main__":
    main()
