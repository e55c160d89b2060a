"""The LE-SDE as a twin of the training: simulate it and score it.

The way of the data: ``inputs`` (what a caller may pass) → ``strengths`` (E(t) from coefficients) → ``modes`` (two
modes, exact) or ``linear`` (matrix exponentials) → ``ode`` and ``sde`` (trajectories) → ``scores``, ``chances``,
``exits`` (what is read from them). ``projection`` fits A and B of a run for its imitation, ``noise`` its Σ; ``stages``
looks for a change of the growth rate.

Forecasts: ``continuation`` (laws of growth, in log time) and ``readings`` (gaps and coordinates of class means) →
``futures`` (fit, backtests, simulation) → ``forecast`` (bands and separation time).

The estimators never import this package: it is their independent oracle.
"""
