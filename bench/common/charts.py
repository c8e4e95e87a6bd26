"""What charts have in common: colours that are legible on white and on dark pages alike, and how they are saved."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Middle greys and saturated colours, with a transparent background.
INK = "#7a7f87"
plt.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
                     "ytick.color": INK, "font.size": 10, "svg.hashsalt": "shufflenet", "legend.frameon": False})


def save(figure, folder, name):
    for kind in ("svg", "png"):
        path = folder / f"{name}.{kind}"
        temporary = folder / f"{name}.new.{kind}"
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(temporary, transparent=True, dpi=150, bbox_inches="tight", metadata=metadata)
        temporary.rename(path)
