"""What charts have in common: colours that are legible on white and on dark pages alike, and how they are saved."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from files import write_whole

# Middle greys and saturated colours, with a transparent background.
INK = "#7a7f87"
plt.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
                     "ytick.color": INK, "font.size": 10, "svg.hashsalt": "shufflenet", "legend.frameon": False})


def save(figure, folder, name):
    write_whole(folder / f"{name}.svg",
                lambda new: figure.savefig(new, transparent=True, bbox_inches="tight", metadata={"Date": None}))
