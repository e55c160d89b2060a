"""The record of live LE coefficients: what is known at one window."""

from __future__ import annotations

from dataclasses import dataclass

from le_callback.values import NAN, Estimate, Source


@dataclass(frozen=True)
class WindowCoefficients:
    """Local-elasticity coefficients of one model at one window. The unit of time is that of the record.

    Attributes:
        model: short name of the similarity model.
        source: of the class means.
        time: midpoint of the window.
        amplitude_common, amplitude_difference: of the two modes, sampling noise removed.
        A, B: ∫α and ∫β since ``reference_time``.
        G: ∫γ since ``gamma_reference_time``.
        alpha, beta, gamma: α, β and γ = α − β per unit of time.
        tail_A, tail_B, tail_gamma: finite-time tail indices of A, B and ∫γ, see ``tail_index.recent_index``.
        reference_time: of A and B: both modes identifiable from here on.
        gamma_reference_time: of the mode that γ depends on.
        status: "ok", or what is missing and why.

    Source: Zhang, Wang, Su 2021, eq. 19, by the norms of the modes.

    >>> WindowCoefficients.unknown("I", Source("logits"), 25.0, "needs two classes").A.value
    nan
    """

    model: str
    source: Source
    time: float
    amplitude_common: float
    amplitude_difference: float
    A: Estimate
    B: Estimate
    G: Estimate
    alpha: Estimate
    beta: Estimate
    gamma: Estimate
    tail_A: Estimate
    tail_B: Estimate
    tail_gamma: Estimate
    reference_time: float
    gamma_reference_time: float
    status: str

    @classmethod
    def unknown(cls, model: str, source: Source, time: float, status: str) -> WindowCoefficients:
        """What is reported where a model does not apply; ``status`` says why."""
        nothing = Estimate.unknown()
        return cls(
            model=model,
            source=source,
            time=time,
            amplitude_common=NAN,
            amplitude_difference=NAN,
            A=nothing,
            B=nothing,
            G=nothing,
            alpha=nothing,
            beta=nothing,
            gamma=nothing,
            tail_A=nothing,
            tail_B=nothing,
            tail_gamma=nothing,
            reference_time=NAN,
            gamma_reference_time=NAN,
            status=status,
        )
