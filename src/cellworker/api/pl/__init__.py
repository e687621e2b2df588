"""Pictures of an AnnData or of an open experiment: ``cellworker.pl``, by matplotlib (extra ``plot``).

Every function draws on the axes that it is given (`ax`), or on a figure of its own, and returns the axes. `save` writes
a picture as a journal wants it: text stays text in SVG and PDF.
"""

from cellworker.api.pl.canvas import save
from cellworker.api.pl.composed import composition
from cellworker.api.pl.distributions import violin
from cellworker.api.pl.genes import dotplot, heatmap
from cellworker.api.pl.maps import embedding, tissue, trajectory
from cellworker.api.pl.volcanoes import volcano

__all__ = ["composition", "dotplot", "embedding", "heatmap", "save", "tissue", "trajectory", "violin", "volcano"]
