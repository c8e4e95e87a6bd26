#!/usr/bin/python3
"""bench_network on an ARM board: copies it there, runs it, and makes JSON and a Markdown table of what it measured.

    bench/arm/board.py --build build/arm64 --sysroot build/arm64-sysroot --runner 'ssh user@board' --output build/bench

The runner is a command that takes a shell command as its last argument and runs it on the board: 'ssh user@board', or
'sh -c' for this machine. The board needs a 64-bit kernel, a shell and tar; C and C++ libraries travel
along, so that its own may be of any version. Needs Python's standard library and aarch64-linux-gnu-objdump.
"""
import argparse
import io
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tarfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from files import write_text

LOADER = "ld-linux-aarch64.so.1"
# Part numbers of processors of implementer 0x41, ARM: arch/arm64/include/asm/cputype.h of Linux.
PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2",
}


def run(command, **options):
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"{' '.join(map(str, command))}: " +
                           (lines[-1] if lines else f"exit status {result.returncode}"))
    return result.stdout


def libraries_of(program, sysroot):
    """The shared libraries that a program needs, theirs included, and the loader: paths by name."""
    folders = [sysroot / "lib/aarch64-linux-gnu", sysroot / "usr/lib/aarch64-linux-gnu", sysroot / "lib"]
    found, waiting = {}, [program]
    while waiting:
        headers = run(["aarch64-linux-gnu-objdump", "-p", waiting.pop()]).decode()
        for name in re.findall(r"^ +NEEDED +(\S+)$", headers, re.MULTILINE):
            if name in found:
                continue
            places = [folder / name for folder in folders if (folder / name).exists()]
            if not places:
                raise RuntimeError(f"{sysroot}: has no {name}")
            found[name] = places[0]
            waiting.append(places[0])
    found[LOADER] = sysroot / "lib" / LOADER
    return found


def packed(files):
    """A tar archive of files, by the names that they get."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name, path in files.items():
            tar.add(path.resolve(), arcname=name)
    return archive.getvalue()


def processors(cpuinfo):
    """What /proc/cpuinfo says, e.g. "4 x Cortex-A55, 4 x Cortex-A76"."""
    names = []
    for implementer, part in re.findall(r"CPU implementer\s*: (\S+).*?CPU part\s*: (\S+)", cpuinfo, re.DOTALL):
        known = PARTS.get(int(part, 16)) if int(implementer, 16) == 0x41 else None
        names.append(known or f"implementer {implementer} part {part}")
    if not names:
        names = re.findall(r"model name\s*: (.+)", cpuinfo) or ["unknown processor"]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


class Board:
    """A folder on the board; everything in it is gone at the end."""

    def __init__(self, runner):
        self.runner = shlex.split(runner)

    def __enter__(self):
        self.folder = self.shell("mktemp -d").decode().strip()
        return self

    def __exit__(self, *_):
        self.shell(f"rm -rf {shlex.quote(self.folder)}")

    def shell(self, command, **options):
        return run([*self.runner, command], **options)

    def unpack(self, archive):
        self.shell(f"tar -x -C {shlex.quote(self.folder)}", input=archive)

    def run(self, prefix, program, *arguments):
        words = [f"./{LOADER}", "--library-path", ".", f"./{program}", *arguments]
        command = " ".join([prefix, *map(shlex.quote, words)]).strip()
        return self.shell(f"cd {shlex.quote(self.folder)} && {command}")


def measure(args):
    program = args.build / "bin" / "bench_network"
    files = {"bench_network": program, **libraries_of(program, args.sysroot)}
    with Board(args.runner) as board:
        print(f"copying {len(files)} files", file=sys.stderr)
        board.unpack(packed(files))
        cpuinfo = board.shell("cat /proc/cpuinfo").decode(errors="replace")
        print("measuring; every model is checked against a naive reference first, which takes a while", file=sys.stderr)
        output = board.run(args.prefix, "bench_network", "--benchmark_format=json", f"--benchmark_filter={args.filter}",
                           f"--benchmark_repetitions={args.repetitions}",
                           "--benchmark_enable_random_interleaving=true", *args.options)
    if not output.strip():
        raise RuntimeError(f"--filter {args.filter}: no such benchmark")
    result = json.loads(output)
    return {"runner": args.runner, "prefix": args.prefix, "processors": processors(cpuinfo), **result}


def rows_of(benchmarks):
    """Repetitions by benchmark."""
    rows = {}
    for bench in benchmarks:
        if bench["run_type"] == "iteration":
            rows.setdefault(bench["run_name"].removesuffix("/real_time"), []).append(bench)
    return rows


def markdown(result):
    prefix = f", under `{result['prefix']}`" if result["prefix"] else ""
    lines = [f"{result['processors']}{prefix}. Milliseconds, minimum / median of the repetitions, and the share of the "
             "multiply-add peak that the same process measured.", "",
             "| network | batch | threads | instruction set | ms | GFLOP/s | share of peak |",
             "|---|--:|--:|---|--:|--:|--:|"]
    for name, repetitions in rows_of(result["benchmarks"]).items():
        _, network, batch, threads = name.split("/")
        times = [bench["real_time"] for bench in repetitions]
        best = min(repetitions, key=lambda bench: bench["real_time"])
        lines.append(f"| {network} | {batch.removeprefix('batch:')} | {threads.removeprefix('threads:')} | "
                     f"{best['label']} | {min(times):.2f} / {statistics.median(times):.2f} | {best['GFLOPS']:.1f} | "
                     f"{100 * best['peak_fraction']:.0f} % |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder of the preset arm64")
    parser.add_argument("--sysroot", type=pathlib.Path, required=True, help="folder with the target's libraries")
    parser.add_argument("--runner", required=True, help="command that runs a shell command on the board")
    parser.add_argument("--prefix", default="", help="what the program runs under there, e.g. 'taskset -c 4-7'")
    parser.add_argument("--filter", default="network/shufflenet_v2", help="regular expression of benchmarks to run")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for board.json and board.md")
    parser.add_argument("options", nargs="*", help="further options of bench_network, after --")
    args = parser.parse_args()
    try:
        result = measure(args)
    except (OSError, RuntimeError, json.JSONDecodeError) as error:
        sys.exit(f"board: error: {error}")
    write_text(args.output / "board.json", json.dumps(result, indent=1) + "\n")
    write_text(args.output / "board.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
