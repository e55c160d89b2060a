"""A window's record in which every number is another one, so that a value under a wrong name shows."""

import numpy as np

from le_callback.elasticity import WindowCoefficients
from le_callback.measures import (
    Collapse,
    CommonMargin,
    Discriminability,
    EffectiveTraining,
    EtfAngles,
    HeadMargin,
    NearestMean,
    Scatter,
    Spread,
)
from le_callback.probe.step_response import StepResponse
from le_callback.records import Regime, WindowRecord
from le_callback.values import Estimate, Source


def estimate(value):
    return Estimate(value, value - 0.25, value + 0.5)


def coefficients(model, source, start):
    return WindowCoefficients(
        model=model,
        source=source,
        time=start,
        amplitude_common=start + 1,
        amplitude_difference=start + 2,
        A=estimate(start + 3),
        B=estimate(start + 4),
        G=estimate(start + 6),
        alpha=estimate(start + 5),
        beta=estimate(start + 7),
        gamma=estimate(start + 9),
        tail_A=estimate(start + 11),
        tail_B=estimate(start + 12),
        tail_gamma=estimate(start + 13),
        reference_time=start + 14,
        gamma_reference_time=start + 15,
        status="ok",
    )


def etf(start, pair):
    return EtfAngles(
        mean=start,
        deviation=start + 1,
        smallest=start + 2,
        pair=pair,
        ideal=120.0,
        norm_variation=start + 3,
        attainable=True,
        cosines=np.eye(3),
        classes=(0, 1, 2),
        error=start + 4,
        uniformity=start + 5,
        excess=start + 6,
        least_deviation=0.0,
        near=((*pair, start + 2),),
        looked_at=3,
        pairs=3,
    )


def collapse():
    return Collapse(
        num_classes=3,
        within=501.0,
        samples=800,
        trace_ratio=502.0,
        distance=503.0,
        duality=504.0,
        duality_cosine=505.0,
        agreement=506.0,
        judged=800,
        rank=507.0,
        stable_rank=508.0,
    )


def distinct_record(**changes):
    """Three classes, two models of batches and one of a probe, a step response, three rules."""
    none = np.zeros(3)
    discriminabilities = {
        "features": Discriminability((0, 1, 2), none, np.zeros((3, 3)), True, ((0, 2, 401.0), (0, 1, 402.0))),
        "logits": Discriminability((0, 1, 2), none, np.zeros((3, 3)), True, ((1, 2, 403.0),)),
    }
    fields = {
        "step": 2050,
        "window": (2000, 2050),
        "samples": 800.0,
        "class_samples": (300.0, 500.0, 0.0),
        "missing_classes": (2,),
        "measures": {
            "etf": {"features": etf(11.0, (0, 1)), "logits": etf(21.0, (1, 2))},
            "collapse": {"features": collapse()},
            "nearest_mean": {
                "features": NearestMean((0, 1), np.array([300.0, 500.0]), np.array([200.0, 400.0])),
                "logits": NearestMean((0, 1), np.array([300.0, 500.0]), np.array([100.0, 300.0])),
            },
            "discriminability": discriminabilities,
            "common_margin": {"features": CommonMargin(404.0, (2, 0, 1), (0, 2), "")},
            "scatter": {
                "features": Scatter((0, 1), 301.0, 302.0, 303.0, none, 0.31, none[:2], none[:2]),
                "logits": Scatter((0, 1), 305.0, 306.0, 307.0, none, 0.32, none[:2], none[:2]),
            },
            "spread": {"features": Spread(31.0, 32.0), "logits": Spread(33.0, 34.0)},
            "head": {
                "logits": HeadMargin(
                    margin=41.0,
                    margin_low=42.0,
                    class_margin=none,
                    tried=np.array([200.0, 200.0, 0.0]),
                    hits=np.array([200.0, 110.0, 0.0]),
                    classes=(0, 1),
                    pairs=np.zeros((2, 2)),
                )
            },
            "effective_training": {"logits": EffectiveTraining(psi=51.0, residue=52.0)},
        },
        "coefficients": {
            "I_logits": coefficients("I", Source("logits"), 1000.0),
            "L_logits": coefficients("L", Source("logits"), 2000.0),
            "I_probe_logits": coefficients("I", Source("logits", probe=True), 3000.0),
        },
        "step_response": {"logits": StepResponse(estimate(61.0), estimate(63.0), estimate(65.0), 40)},
        "response_matrix": {},
        "skipped": {"unknown_labels": 71, "nonfinite_features": 72},
        "time_unit": "step",
        "regime": Regime(
            "separated", "nothing grows", estimate(83.0), "like", "γ is spent.", 81.0, Estimate(0.82, 0.72, 0.93)
        ),
        "alerts": {"PairMerging": True, "NonFinite": False, "ClassVanished": True},
    }
    return WindowRecord(**(fields | changes))
