#!/usr/bin/python3
"""Charts of the guidelines' JSON: plot_guidelines.py FILE|- FOLDER writes g1 to g4, cells, units, decomposition and
speed, as .svg, of what the file has."""
import json
import pathlib
import sys

from matplotlib import ticker

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from charts import INK, plt, save

HERE = "#137cbd"
FUSED = "#48aff0"
ARM = "#d9822b"
GPU = "#c23030"
WIDTHS = ["x1", "x2", "x4"]
TITLES = {"g1": "G1: channel widths c1:c2", "g2": "G2: groups", "g3": "G3: fragments", "g4": "G4: element-wise operations"}
BEST = {"g1": "1:1", "g2": "g=1", "g3": "1-fragment", "g4": "no ReLU, no shortcut"}
SHORT = {"1-fragment": "1", "2-fragment-series": "2 series", "4-fragment-series": "4 series",
         "2-fragment-parallel": "2 parallel", "4-fragment-parallel": "4 parallel", "ReLU, shortcut": "ReLU,\nshortcut",
         "ReLU, no shortcut": "ReLU", "no ReLU, shortcut": "shortcut", "no ReLU, no shortcut": "neither"}

BEST_UNIT = "ShuffleNetV2"
UNITS = {"ShuffleNetV2": "V2", "ShuffleNetV1, g=3": "V1, g=3", "MobileNetV2": "MobileNet\nV2",
         "Xception-like": "Xception-\nlike"}


def best_isa(result):
    """The last instruction set: the best one of the machine."""
    return [s["isa"] for s in result["tables"]][-1]


def sets_of(result, table):
    found = [s for s in result["tables"] if s["table"] == table and s["isa"] == best_isa(result)]
    return sorted(found, key=lambda s: s.get("width", 0))


def version(row, name):
    return row.get(name) or row["unfused"]


def grouped_bars(axis, labels, series):
    """series: (name, colour, heights)."""
    width = 0.8 / len(series)
    for i, (name, colour, heights) in enumerate(series):
        positions = [g + (i - (len(series) - 1) / 2) * width for g in range(len(labels))]
        axis.bar(positions, heights, width * 0.9, label=name, color=colour)
    axis.set_xticks(range(len(labels)), labels)
    axis.spines[["top", "right"]].set_visible(False)


def relative(rows, base, value):
    reference = value(next(r for r in rows if r["row"] == base))
    return [value(r) / reference for r in rows]


def panel_for_each_width(result, name, folder, title, label, panel):
    """panel(rows, width) gives a panel's title, the labels of its groups of bars, and their series."""
    sets = sets_of(result, name)
    if not sets:
        return
    figure, axes = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 3.6), sharey=True, squeeze=False)
    for axis, found in zip(axes.flat, sets):
        heading, labels, series = panel(found["rows"], found["width"])
        grouped_bars(axis, labels, series)
        axis.axhline(1, color=INK, linewidth=0.8)
        axis.set_title(heading, color=INK)
    axes.flat[0].set_ylabel(label)
    figure.suptitle(f"{title} ({best_isa(result)})", color=INK)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncol=len(labels), loc="lower center", bbox_to_anchor=(0.5, -0.08))
    figure.tight_layout()
    save(figure, folder, name)


def table(result, name, folder):
    def panel(rows, width):
        has_fused = any("fused" in r for r in rows)
        series = [("unfused" if has_fused else "here", HERE,
                   relative(rows, BEST[name], lambda r: r["unfused"]["gflops"]))]
        if has_fused:
            series.append(("fused", FUSED, relative(rows, BEST[name], lambda r: version(r, "fused")["gflops"])))
        series.append(("paper, ARM", ARM, relative(rows, BEST[name], lambda r: r["paper"]["arm"])))
        series.append(("paper, GPU", GPU, relative(rows, BEST[name], lambda r: r["paper"]["gpu"])))
        return WIDTHS[width], [SHORT.get(r["row"], r["row"]) for r in rows], series

    panel_for_each_width(result, name, folder, TITLES[name], "speed, that of the best row = 1", panel)


def cells(result, folder):
    sets = sets_of(result, "cells")
    if not sets:
        return
    rows = sets[0]["rows"]
    figure, axis = plt.subplots(figsize=(6, 3.4))
    names, series = [], ([], [], [])
    for cell, plain in zip(rows[::2], rows[1::2]):
        names.append(cell["row"])
        for heights, figures in zip(series, (plain["unfused"], cell["unfused"], version(cell, "fused"))):
            heights.append(100 * figures["peak_fraction"])
    grouped_bars(axis, names, [("one 1x1 convolution of the same FLOPs", "#b0b4ba", series[0]), ("cell, unfused", HERE, series[1]),
                               ("cell, fused", FUSED, series[2])])
    axis.set_ylabel("% of the multiply-add peak")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3)
    axis.set_title(f"Cells of many fragments ({best_isa(result)})", color=INK)
    save(figure, folder, "cells")


def units(result, name, folder):
    def panel(rows, width):
        def rate(version):
            return lambda r: 1 / r[version]["min_us"] if version in r else 0

        series = [("unfused", HERE, relative(rows, BEST_UNIT, rate("unfused"))),
                  ("fused", FUSED, relative(rows, BEST_UNIT, rate("fused"))),
                  ("paper, ARM", ARM, relative(rows, BEST_UNIT, lambda r: r["paper"]["arm"])),
                  ("paper, GPU", GPU, relative(rows, BEST_UNIT, lambda r: r["paper"]["gpu"]))]
        return f"c = {64 << width}", [UNITS.get(r["row"], r["row"]) for r in rows], series

    side = name.removeprefix("units")
    panel_for_each_width(result, name, folder, f"Units at {side}x{side}", "images/s, those of V2 = 1", panel)


PARTS = {"conv": "#137cbd", "depthwise": "#0d8050", "element_wise": "#d9822b", "data_movement": "#c23030", "other": "#8f9398",
         "fused": "#48aff0"}


def decomposition(result, folder):
    if not result["decomposition"]:
        return
    bars = []
    for row in result["decomposition"]:
        bars.append((f"{row['network']}, unfused", row["unfused"]["us"]))
        bars.append((f"{row['network']}, fused", {"fused": row["fused"]["total_us"]}))
    figure, axis = plt.subplots(figsize=(8, 3.4))
    left = [0.0] * len(bars)
    for part, colour in PARTS.items():
        widths = [us.get(part, 0) / 1e3 for _, us in bars]
        axis.barh([name for name, _ in bars], widths, left=left, color=colour, label=part.replace("_", " "), height=0.65)
        left = [a + b for a, b in zip(left, widths)]
    axis.invert_yaxis()
    axis.set_xlabel(f"milliseconds ({result['decomposition'][0]['isa']})")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncol=5, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    save(figure, folder, "decomposition")


FAMILIES = {"shufflenet_v2": ("ShuffleNetV2", "#137cbd", "o"), "shufflenet_v1": ("ShuffleNetV1, g=3", "#0d8050", "s"),
            "mobilenet_v1": ("MobileNetV1", "#8f9398", "^"), "mobilenet_v2": ("MobileNetV2", "#d9822b", "D"),
            "xception": ("Xception-like", "#c23030", "v")}


RATES = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]


def speed(result, folder):
    if not result["networks"]:
        return
    rows = [row for found in result["networks"] for row in found["networks"]]
    isa = result["networks"][0]["isa"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for family, (name, colour, marker) in FAMILIES.items():
        mine = sorted((r for r in rows if r["network"].startswith(family)), key=lambda r: r["flops"])
        rates = [1e6 / r["min_us"] for r in mine]
        left.plot([r["flops"] * 1e-6 for r in mine], rates, marker + "-", color=colour, label=name)
        known = [(rate, r["paper"]["error"]) for rate, r in zip(rates, mine) if "paper" in r]
        right.plot([k[0] for k in known], [k[1] for k in known], marker + "-", color=colour, label=name)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("MFLOPs")
    left.set_ylabel(f"images/s ({isa})")
    right.set_xscale("log")
    right.set_xlabel(f"images/s ({isa})")
    right.set_ylabel("top-1 error, % (the paper's Table 8)")
    rates = [round(1e6 / r["min_us"]) for r in rows]
    ticks = [rate for rate in RATES if min(rates) / 1.5 <= rate <= max(rates) * 1.5]
    for axis, places in ((left.xaxis, [40, 80, 150, 300, 600]), (left.yaxis, ticks), (right.xaxis, ticks)):
        axis.set_major_locator(ticker.FixedLocator(places))
        axis.set_major_formatter(ticker.ScalarFormatter())
        axis.set_minor_locator(ticker.NullLocator())
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    left.legend()
    figure.tight_layout()
    save(figure, folder, "speed")


def main():
    text = sys.stdin.read() if sys.argv[1] == "-" else pathlib.Path(sys.argv[1]).read_text()
    result = json.loads(text)
    folder = pathlib.Path(sys.argv[2])
    for name in TITLES:
        table(result, name, folder)
    cells(result, folder)
    units(result, "units56", folder)
    units(result, "units28", folder)
    decomposition(result, folder)
    speed(result, folder)


if __name__ == "__main__":
    main()
