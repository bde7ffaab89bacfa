"""Pictures of what a run saw, as Vega-Lite specifications: one module for each form that a value can have.

    matrices    heat maps, each column's beside the others on one scale; and how far they are from the reference
    ties        a graph of uses and storages
    curves      lines over each other, and how far they are from the reference
    histograms  densities, each column's beside the others
    outcomes    a matrix of ways and frameworks

All numbers stand in the specification. A reader of the page picks colours for light and dark, so nothing here
has the colour of paper or ink. Text that comes from a run is data: it is in no expression, and in no name of a
field.
"""

from __future__ import annotations

from d2lparams.comparison import Comparison
from d2lparams.reports.charts.chart import Chart
from d2lparams.reports.charts.curves import curves
from d2lparams.reports.charts.heat_maps import heat_maps
from d2lparams.reports.charts.histograms import histograms
from d2lparams.reports.charts.outcomes import outcome_matrix
from d2lparams.reports.charts.tie_graphs import tie_graph

__all__ = ["Chart", "charts"]

DRAWN = {"matrices": heat_maps, "ties": tie_graph, "curves": curves, "histograms": histograms}


def charts(comparison: Comparison, scenario: str) -> list[Chart]:
    """The pictures of one scenario, in the order of its observations; that of its outcomes comes first."""
    found = outcome_matrix(comparison, scenario)
    for row in comparison.of(scenario):
        if row.form:
            found += DRAWN[row.form](comparison, row)
    return found
