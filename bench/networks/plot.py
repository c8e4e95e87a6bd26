#!/usr/bin/python3
"""Charts of compare.py's JSON: plot.py peers.json FOLDER writes peers.svg and roofline.svg."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from charts import INK, plt, save

COLOURS = {"onnxruntime": "#d9822b", "openvino": "#7157d9", "pytorch": "#c23030", "ncnn": "#0d8050", "mnn": "#96622d",
           "ours": "#137cbd", "ours2": "#48aff0"}
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch": "PyTorch", "mnn": "MNN"}


def panels(result):
    """[(title, networks, {side: [time over the floor, or None where it is absent]})], a panel for each batch and number
    of threads."""
    found = {}
    for case in result["cases"]:
        found.setdefault((case["batch"], case["threads"]), []).append(case)
    rows = []
    for (batch, threads), cases in found.items():
        times = [{s["name"]: s["min_us"] for s in case["sides"] if "absent" not in s} for case in cases]
        # Precisions of their own come last, as in the table.
        names = sorted(dict.fromkeys(name for case in times for name in case), key=own_precision)
        bars = {name: [case[name] / c["floor_us"] if name in case else None for case, c in zip(times, cases)]
                for name in names}
        rows.append((f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}",
                     [c["network"].removeprefix("shufflenet_v2_") for c in cases], bars))
    return rows


def own_precision(name):
    """Whether a peer's side is in the precision that it takes by itself."""
    return "(" in name and not name.startswith("ours")


def style(name, best):
    framework = name.split(" ")[0]
    hue = COLOURS.get("ours" if name == best else "ours2" if framework == "ours" else framework, INK)
    look = {"facecolor": hue + "55", "hatch": "////"} if own_precision(name) else {"facecolor": hue}
    title = name.replace(framework, TITLES.get(framework, framework), 1)
    return {"edgecolor": hue, "linewidth": 0.8, "label": title, **look}


def bars(result, folder):
    """From the floor up, on a logarithmic scale: half of the floor is as far from it as twice the floor."""
    rows = panels(result)
    every = [height for _, _, sides in rows for heights in sides.values() for height in heights if height]
    # Labels of many narrow bars stand upright, and need room for that.
    upright = max(len(networks) * len(sides) for _, networks, sides in rows) > 24
    room = 1.9 if upright else 1.35
    low, high = min([1, *every]) / (room if min(every) < 1 else 1.1), max(every) * room
    figure, axes = plt.subplots(len(rows), 1, figsize=(10, 0.8 + 2.3 * len(rows)), squeeze=False)
    for axis, (title, networks, sides) in zip(axes.flat, rows):
        best = [name for name in sides if name.startswith("ours")][-1]
        width = 0.9 / len(sides)
        for i, (name, heights) in enumerate(sides.items()):
            look = style(name, best)
            for group, height in enumerate(heights):
                if height is None:
                    continue
                x = group + (i - (len(sides) - 1) / 2) * width
                axis.bar(x, height - 1, width * 0.86, bottom=1, **look)
                look["label"] = None
                above = height >= 1
                axis.annotate(f"{height:.{2 if height < 10 else 1}f}", (x, height), (0, 2 if above else -2),
                              textcoords="offset points", ha="center", va="bottom" if above else "top", fontsize=7.5,
                              rotation=90 if upright else 0)
        axis.axhline(1, color=INK, linewidth=1.5)
        axis.set_yscale("log")
        axis.set_ylim(low, high)
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= tick <= high]
        axis.set_yticks(ticks, ["floor = 1" if tick == 1 else f"{tick:g}" for tick in ticks])
        axis.set_yticks([], minor=True)
        axis.set_xlim(-0.5, len(networks) - 0.5)
        axis.set_xticks(range(len(networks)), networks)
        axis.tick_params(axis="x", length=0)
        axis.set_title(title, color=INK, fontsize=10, loc="left")
        axis.set_ylabel("time / floor")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="upper center", ncol=5)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.55 / figure.get_figheight()))
    save(figure, folder, "peers")


def roofline(result, folder):
    figure, axis = plt.subplots(figsize=(9, 5))
    markers = {"x0_5": "o", "x1_0": "s", "x1_5": "^", "x2_0": "D"}
    stages = ["stem", "stage2", "stage3", "stage4", "conv5", "fc"]
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
