#!/usr/bin/python3
"""Charts of compare.py's JSON: plot.py peers.json FOLDER writes peers.svg/.png and roofline.svg/.png."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Middle greys and saturated colours: legible on white and on dark pages alike, with a transparent background.
INK = "#7a7f87"
COLOURS = {"floor": "#b0b4ba", "onnxruntime": "#d9822b", "pytorch": "#c23030", "ours": "#137cbd", "ours2": "#48aff0"}
plt.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
                     "ytick.color": INK, "font.size": 10, "svg.hashsalt": "shufflenet", "legend.frameon": False})


def save(figure, folder, name):
    for kind in ("svg", "png"):
        path = folder / f"{name}.{kind}"
        temporary = folder / f"{name}.new.{kind}"
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(temporary, transparent=True, dpi=150, bbox_inches="tight", metadata=metadata)
        temporary.rename(path)


def colour(name):
    if name.startswith("ours"):
        return COLOURS["ours"] if "avx512" in name else COLOURS["ours2"]
    return COLOURS.get(name, INK)


def bars(result, folder):
    groups = [(b, t) for b in (1, 8) for t in (1, 2)]
    figure, axes = plt.subplots(2, 2, figsize=(11, 7))
    for axis, (batch, threads) in zip(axes.flat, groups):
        cases = [c for c in result["cases"] if c["batch"] == batch and c["threads"] == threads]
        sides = ["floor"] + [s["name"] for s in cases[0]["sides"] if "absent" not in s]
        width = 0.8 / len(sides)
        for i, name in enumerate(sides):
            heights = []
            for case in cases:
                time = case["floor_us"] if name == "floor" else next(s["min_us"] for s in case["sides"] if s["name"] == name)
                heights.append(case["batch"] * 1e6 / time)
            positions = [g + (i - (len(sides) - 1) / 2) * width for g in range(len(cases))]
            axis.bar(positions, heights, width * 0.92, label=name, color=colour(name))
        axis.set_xticks(range(len(cases)), [c["network"].removeprefix("shufflenet_v2_") for c in cases])
        axis.set_title(f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}", color=INK)
        axis.set_ylabel("images/s")
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[0].legend()
    figure.tight_layout()
    save(figure, folder, "peers")


def roofline(result, folder):
    figure, axis = plt.subplots(figsize=(9, 5))
    markers = {"x0_5": "o", "x1_0": "s", "x1_5": "^", "x2_0": "D"}
    stages = ["stem", "stage2", "stage3", "stage4", "conv5_pool", "fc"]
    hues = ["#137cbd", "#0d8050", "#d9822b", "#c23030", "#752f75", "#8f9398"]
    for point in result["stages"]:
        if not point["name"].endswith("threads:1/cold"):
            continue
        _, model, stage = point["name"].split("/")[:3]
        axis.plot(point["flops_per_byte"], 100 * point["peak_fraction"], markers[model[-4:]], color=hues[stages.index(stage)],
                  markersize=8, alpha=0.85)
    axis.axhline(100, color=INK, linewidth=1.5)
    axis.text(0.99, 0.955, "multiply-add peak", transform=axis.transAxes, ha="right", va="bottom")
    axis.set_xscale("log")
    axis.set_ylim(0, 108)
    axis.set_xlabel("FLOP per byte (input, output and weights once each)")
    axis.set_ylabel("% of the multiply-add peak")
    axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Line2D([], [], color=h, marker="o", linestyle="", label=s) for s, h in zip(stages, hues)]
    handles += [plt.Line2D([], [], color=INK, marker=m, linestyle="", label=n) for n, m in markers.items()]
    axis.legend(handles=handles, ncol=2, loc="lower right")
    save(figure, folder, "roofline")


def main():
    result = json.loads(pathlib.Path(sys.argv[1]).read_text())
    folder = pathlib.Path(sys.argv[2])
    bars(result, folder)
    if result.get("stages"):
        roofline(result, folder)


if __name__ == "__main__":
    main()
