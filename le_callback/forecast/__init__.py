"""Forecasts of a run: how gaps go on, and when the worst pair is separated.

The way of the data: ``quantities`` (gaps and coordinates of class means) and ``growth_laws`` (how a curve goes on in
log time) → ``inputs`` (what a caller may pass, and the readings of the run) → ``futures`` (fit, simulation) →
``bands`` (quantiles over the futures, and the separation time).
"""

from le_callback.forecast.bands import Bands, Forecast, SeparationTime, forecast

__all__ = ["Bands", "Forecast", "SeparationTime", "forecast"]
