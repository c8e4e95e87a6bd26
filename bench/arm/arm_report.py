#!/usr/bin/python3
"""What the ARM kernels execute, counted exactly, without a board: JSON and a Markdown table.

    bench/arm/arm_report.py --build build/arm64 [--networks NAME...] [--json FILE] [--markdown FILE]

One image goes through a network under qemu, and a plugin counts how often every instruction ran. Against the cost model
of networks/ that gives the multiply-adds executed over those that the shapes need, and instructions a multiply-add. The
inner loops, as disassembled, go through llvm-mca's models of cores; a stage's share of the multiply-add limit is

    sum over loops of (iterations x cycles of the loop's multiply-adds alone)
    -------------------------------------------------------------------------
    sum over loops of (iterations x cycles of the whole loop)

with perfect caches and branches, as llvm-mca assumes. Needs Python's standard library, and qemu-aarch64, llvm-mca, cc
and aarch64-linux-gnu-objdump.
"""
import argparse
import bisect
import collections
import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from files import write_text

HERE = pathlib.Path(__file__).resolve().parent
NETWORKS = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
STAGES = ["stem", "stage2", "stage3", "stage4", "conv5", "fc"]
LANES = 4

# By core, programs that have a model of it, the preferred one first. LLVM models the Cortex-A76 as a Cortex-A57, with one
# multiply-add and one load a cycle, where it has two of each; so has the Neoverse-N1, the same core, which only newer
# versions model.
MODELS = {
    "cortex-a76": ["llvm-mca-14", "llvm-mca-19"],
    "neoverse-n1": ["llvm-mca-19"],
    "cortex-a53": ["llvm-mca-14", "llvm-mca-19"],
    "cortex-a55": ["llvm-mca-14", "llvm-mca-19"],
}

# (address, mnemonic, operands)
Instruction = collections.namedtuple("Instruction", "address mnemonic operands")


def run(command, **options):
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **options)
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]}: {result.stderr.strip() or 'failed'}")
    return result.stdout


# Counting


def compile_plugin(folder):
    plugin = folder / "block_counts.so"
    run(["cc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", plugin, HERE / "block_counts.c"])
    return plugin


def count_executions(sysroot, plugin, program, *arguments):
    """How often each instruction ran, by address."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "blocks")
        run(["qemu-aarch64", "-L", sysroot, "-plugin", f"file={plugin},out={out}", program, *arguments])
        counts = collections.Counter()
        for line in out.read_text().splitlines():
            address, instructions, executions = line.split()
            for i in range(int(instructions)):
                counts[int(address, 16) + 4 * i] += int(executions)
        return counts


def disassemble(program):
    """Functions by name, each a list of instructions."""
    functions, code = {}, []
    for line in run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program]).splitlines():
        if match := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            # The same name twice is possible for local functions of two objects.
            code = functions.setdefault(match[1], [])
        elif match := re.match(r" *([0-9a-f]+):\t(\S+)\s*(.*)$", line):
            code.append(Instruction(int(match[1], 16), match[2], re.sub(r"\s*//.*", "", match[3])))
    return functions


def multiply_adds(instruction):
    """Single-precision multiply-adds of one instruction, products without a sum included."""
    if instruction.mnemonic in ("fmla", "fmls", "fmul"):
        if match := re.match(r"v\d+\.([24])s", instruction.operands):
            return int(match[1])
        return 1
    return 1 if instruction.mnemonic in ("fmadd", "fmsub", "fnmadd", "fnmsub") else 0


def by_lane(instruction):
    """Whether it multiplies by one lane of a vector: what pointwise convolutions do, and depthwise ones do not."""
    return multiply_adds(instruction) > 0 and "]" in instruction.operands


def inner_loops(code):
    """Loops without another loop inside, as lists of instructions."""
    addresses = [i.address for i in code]
    loops = []
    for end, instruction in enumerate(code):
        match = re.search(r"([0-9a-f]+) <", instruction.operands)
        if match is None or not re.match(r"b$|b\.|cbn?z|tbn?z", instruction.mnemonic):
            continue
        begin = bisect.bisect_left(addresses, int(match[1], 16))
        if begin <= end and addresses[begin] == int(match[1], 16):
            loops.append((begin, end))
    return [code[b : e + 1] for b, e in loops
            if not any((b, e) != (ob, oe) and b <= ob and oe <= e for ob, oe in loops)]


# Cycles


@functools.lru_cache(maxsize=None)
def cycles(program, core, assembly):
    """Cycles of one iteration of a loop."""
    iterations = 100
    text = run([program, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={iterations}"], input=assembly)
    return int(re.search(r"Total Cycles:\s+(\d+)", text)[1]) / iterations


def assembly_of(loop):
    lines = [".L:"]
    for i in loop:
        lines.append(f"{i.mnemonic} " + re.sub(r"\b[0-9a-f]+ <[^>]*>", ".L", i.operands))
    return "\n".join(lines) + "\n"


def limit_of(loop):
    """The loop's multiply-adds alone, as many chains as registers allow."""
    lines = []
    for n, i in enumerate(i for i in loop if multiply_adds(i)):
        factor = "v30.s[0]" if by_lane(i) else "v30.4s"
        lines.append(f"fmla v{n % 28}.4s, v31.4s, {factor}")
    return "\n".join(lines) + "\n"


# Figures


class Figures:
    """Sums over the kernels of one stage."""

    def __init__(self):
        self.needed = self.products = self.instructions = 0
        self.lane_products = self.lane_instructions = self.loop_products = 0
        self.limit, self.cycles = collections.Counter(), collections.Counter()

    def add_code(self, code, counts):
        for i in code:
            self.instructions += counts[i.address]
            if multiply_adds(i):
                self.products += counts[i.address]

    def add_loop(self, loop, counts, models, convolves_image):
        iterations = counts[loop[0].address]
        products = sum(multiply_adds(i) > 0 for i in loop)
        if iterations == 0 or products == 0:
            return
        self.loop_products += iterations * products
        if not convolves_image and any(by_lane(i) for i in loop):
            self.lane_products += iterations * products
            self.lane_instructions += iterations * len(loop)
        for core, program in models:
            self.limit[core] += iterations * cycles(program, core, limit_of(loop))
            self.cycles[core] += iterations * cycles(program, core, assembly_of(loop))

    def as_json(self):
        def ratio(a, b):
            return round(a / b, 4) if b else None

        return {
            "multiply_adds": self.needed,
            # Vector multiply-adds executed, over the fewest that the shapes need.
            "fmla_over_minimum": ratio(self.products, self.needed / LANES),
            "instructions_per_fmla": ratio(self.instructions, self.products),
            "instructions_per_multiply_add": ratio(self.instructions, self.needed),
            # Of the inner loops of pointwise convolutions (and of the fully connected layer).
            "pointwise_loop_instructions_per_fmla": ratio(self.lane_instructions, self.lane_products),
            "fmla_in_inner_loops": ratio(self.loop_products, self.products),
            "share_of_limit": {core: ratio(self.limit[core], self.cycles[core]) for core in self.cycles},
        }


def stage_of(name):
    """The stage of a kernel or a layer, e.g. of "stage3_unit1_branch2_pw1"."""
    return next(stage for stage in STAGES if stage == name.split("_")[0])


def stages_of_kernels(args, network):
    """The stage of every kernel of a network, by its key: that of its first call."""
    text = run([args.compiler, "--list-kernels", "--network", network])
    return {key: stage_of(call) for key, call, *_ in map(str.split, text.splitlines())}


def measure(args, network, plugin, functions, models):
    """Figures by stage, and of the whole network."""
    program = args.build / "bin" / "run_once"
    counts = count_executions(args.sysroot, plugin, program, network)
    info = json.loads(run(["qemu-aarch64", "-L", args.sysroot, args.build / "bin" / "shufflenet", "info", "--json",
                           network]))
    stages = {stage: Figures() for stage in [*STAGES, "network"]}
    kernels = stages_of_kernels(args, network)
    for layer in info["layers"]:
        if layer["flops"]:
            for figures in (stages[stage_of(layer["id"])], stages["network"]):
                figures.needed += layer["flops"]
    for name, code in functions.items():
        match = re.match(rf"{network}_{args.isa}_(.+?)(?:_par_for_.*)?$", name)
        if match is None:
            continue
        stage = kernels[match[1]]
        for figures in (stages[stage], stages["network"]):
            figures.add_code(code, counts)
            for loop in inner_loops(code):
                figures.add_loop(loop, counts, models, convolves_image=stage == "stem")
    return {stage: figures.as_json() for stage, figures in stages.items()}


def usable_models(wanted):
    """Cores with the first of their programs that is installed; those without are left out."""
    found = [(core, next(filter(shutil.which, programs), None)) for core, programs in wanted.items()]
    return [(core, program) for core, program in found if program]


def report(args):
    models = usable_models({core: MODELS[core] for core in args.cores})
    with tempfile.TemporaryDirectory() as folder:
        plugin = compile_plugin(pathlib.Path(folder))
        functions = disassemble(args.build / "bin" / "run_once")
        networks = {}
        for network in args.networks:
            print(f"counting {network}", file=sys.stderr)
            networks[network] = measure(args, network, plugin, functions, models)
    return {
        "command": " ".join(["./dev arm-report", *(["--networks", *args.networks] if args.networks != NETWORKS else [])]),
        "isa": args.isa,
        "qemu": run(["qemu-aarch64", "--version"]).splitlines()[0],
        "models": {core: program for core, program in models},
        "networks": networks,
    }


def markdown(result):
    cores = list(result["models"])
    lines = [
        f"What the kernels for {result['isa']} execute for one image, counted by qemu ({result['qemu']}). "
        "fmla: vector multiply-adds executed, over the fewest that the shapes need. Instructions: of whole kernels for "
        "each multiply-add of the cost model, of whole kernels for each fmla, and of the inner loops of pointwise "
        "convolutions (fc: of its inner loop) for each fmla. Then the share of the multiply-add limit that the inner "
        "loops reach in llvm-mca's models of cores: " +
        ", ".join(f"{core} ({program})" for core, program in result["models"].items()) + ".",
        "",
        "| network | stage | fmla / minimum | instr. / multiply-add | instr. / fmla | in loops | " +
        " | ".join(cores) + " |",
        "|---|---|--:|--:|--:|--:|" + "--:|" * len(cores),
    ]
    for network, stages in result["networks"].items():
        for stage, figures in stages.items():
            loops = figures["pointwise_loop_instructions_per_fmla"]
            cells = [network, stage, f"{figures['fmla_over_minimum']:.3f}",
                     f"{figures['instructions_per_multiply_add']:.3f}", f"{figures['instructions_per_fmla']:.2f}",
                     f"{loops:.2f}" if loops else "",
                     *(f"{100 * figures['share_of_limit'][core]:.0f} %" for core in cores)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder of the preset arm64")
    parser.add_argument("--compiler", type=pathlib.Path, required=True, help="shufflenet_compile of this machine")
    parser.add_argument("--sysroot", default="/usr/aarch64-linux-gnu", help="where qemu finds the target's libraries")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--cores", nargs="+", choices=MODELS, default=list(MODELS), help="models of llvm-mca")
    parser.add_argument("--isa", default="neon")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    parser.add_argument("--markdown", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    try:
        result = report(args)
    except (OSError, RuntimeError) as error:
        sys.exit(f"arm_report: error: {error}")
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    if args.markdown:
        write_text(args.markdown, markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
