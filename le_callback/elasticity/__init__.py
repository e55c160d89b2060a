"""Local-elasticity coefficients: models, estimators, and their online form.

The way of the data: ``models`` (coordinates and regressors of class means) → ``amplitudes`` or ``regression`` (what is
read from them) with ``sampling`` (its noise) → ``increments`` and ``growth`` (fits) → ``rates`` (α, β, γ of a window) →
``estimators`` (a whole run; ``sliding`` windows, ``coefficients`` the record) or ``online`` (window after window).
``le_matrix`` estimates the full matrix E.
"""
