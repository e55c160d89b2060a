"""Every tag carries the value that its name says, written out by hand."""

import math
import re
from dataclasses import replace

import pytest
from distinct import coefficients, distinct_record

from le_callback import LECallback, MonitorSettings, SeparationMonitor
from le_callback.report.tags import GROUPS, scalars
from le_callback.values import Source


def of_model(key, start):
    return {
        f"le/{key}/amplitude_common": start + 1,
        f"le/{key}/amplitude_difference": start + 2,
        f"le/{key}/A": start + 3,
        f"le/{key}/A_low": start + 2.75,
        f"le/{key}/A_high": start + 3.5,
        f"le/{key}/B": start + 4,
        f"le/{key}/B_low": start + 3.75,
        f"le/{key}/B_high": start + 4.5,
        f"le/{key}/G": start + 6,
        f"le/{key}/G_low": start + 5.75,
        f"le/{key}/G_high": start + 6.5,
        f"le/{key}/alpha": start + 5,
        f"le/{key}/alpha_low": start + 4.75,
        f"le/{key}/alpha_high": start + 5.5,
        f"le/{key}/beta": start + 7,
        f"le/{key}/beta_low": start + 6.75,
        f"le/{key}/beta_high": start + 7.5,
        f"le/{key}/gamma": start + 9,
        f"le/{key}/gamma_low": start + 8.75,
        f"le/{key}/gamma_high": start + 9.5,
        f"le/{key}/tail_A": start + 11,
        f"le/{key}/tail_A_low": start + 10.75,
        f"le/{key}/tail_A_high": start + 11.5,
        f"le/{key}/tail_B": start + 12,
        f"le/{key}/tail_B_low": start + 11.75,
        f"le/{key}/tail_B_high": start + 12.5,
        f"le/{key}/tail_gamma": start + 13,
        f"le/{key}/tail_gamma_low": start + 12.75,
        f"le/{key}/tail_gamma_high": start + 13.5,
    }


EXPECTED = {
    **of_model("I_logits", 1000.0),
    **of_model("L_logits", 2000.0),
    **of_model("I_probe_logits", 3000.0),
    "le/measured_logits/intra": 61.0,
    "le/measured_logits/intra_low": 60.75,
    "le/measured_logits/intra_high": 61.5,
    "le/measured_logits/inter": 63.0,
    "le/measured_logits/inter_low": 62.75,
    "le/measured_logits/inter_high": 63.5,
    "le/measured_logits/gamma": 65.0,
    "le/measured_logits/gamma_low": 64.75,
    "le/measured_logits/gamma_high": 65.5,
    "etf/features/angle_mean_deg": 11.0,
    "etf/features/angle_deviation_deg": 12.0,
    "etf/features/angle_smallest_deg": 13.0,
    "etf/features/norm_variation": 14.0,
    "etf/logits/angle_mean_deg": 21.0,
    "etf/logits/angle_deviation_deg": 22.0,
    "etf/logits/angle_smallest_deg": 23.0,
    "etf/logits/norm_variation": 24.0,
    "collapse/features/etf_error": 15.0,
    "collapse/features/uniformity": 16.0,
    "collapse/features/cosine_excess": 17.0,
    "collapse/logits/etf_error": 25.0,
    "collapse/logits/uniformity": 26.0,
    "collapse/logits/cosine_excess": 27.0,
    "collapse/features/within": 501.0,
    "collapse/features/trace_ratio": 502.0,
    "collapse/features/cdnv": 503.0,
    "collapse/features/self_duality": 504.0,
    "collapse/features/self_duality_cosine": 505.0,
    "collapse/features/head_agreement": 506.0,
    "collapse/features/mean_rank": 507.0,
    "collapse/features/mean_stable_rank": 508.0,
    "collapse/predicted": 0.0,
    "collapse/predicted_growth": math.log(2001 / 2002),  # the modes of L_logits
    "separation/features/nearest_mean_accuracy": 0.75,
    "separation/logits/nearest_mean_accuracy": 0.5,
    "separation/features/discriminability_min": 401.0,
    "separation/logits/discriminability_min": 403.0,
    "separation/features/common_margin": 404.0,
    "separation/features/dead_units": 0.31,
    "separation/logits/dead_units": 0.32,
    "separation/features/effective_rank": 31.0,
    "separation/logits/effective_rank": 33.0,
    "separation/head_accuracy": 0.775,
    "separation/head_margin": 41.0,
    "separation/head_margin_low": 42.0,
    "separation/effective_training": 51.0,
    "separation/linearisation_residue": 52.0,
    "separation/tail_local": 0.82,
    "separation/tail_local_low": 0.72,
    "separation/tail_local_high": 0.93,
    "separation/t_gamma": 81.0,
    "separation/separated": 1.0,
    "separation/rate": 83.0,
    "separation/rate_low": 82.75,
    "separation/rate_high": 83.5,
    "alerts/active": 2.0,
    "alerts/PairMerging": 1.0,
    "alerts/NonFinite": 0.0,
    "alerts/ClassVanished": 1.0,
}


@pytest.mark.parametrize("tag", EXPECTED)
def test_a_tag_carries_its_own_value(tag):
    assert scalars(distinct_record())[tag] == EXPECTED[tag]


def test_there_are_no_other_tags():
    assert scalars(distinct_record()).keys() == EXPECTED.keys()


def test_rates_name_a_unit_of_time_that_is_not_the_step():
    found = scalars(distinct_record(time_unit="learning rate"))
    renamed = {
        re.sub(r"/(alpha|beta|gamma|rate)(?=$|_low|_high)", r"/\1_per_learning_rate", tag)
        if "measured" not in tag and "tail" not in tag
        else tag: value
        for tag, value in EXPECTED.items()
    }
    assert found == renamed
    assert "le/I_logits/gamma_per_learning_rate_low" in found


def test_what_is_missing_is_nan_and_no_tag_less():
    empty = scalars(distinct_record(measures={}, regime=None))
    assert empty.keys() == EXPECTED.keys()
    missing = {tag for tag in EXPECTED if tag.split("/")[0] in ("etf", "separation", "collapse")}
    missing -= {"collapse/predicted", "collapse/predicted_growth"}
    assert {tag for tag, value in empty.items() if math.isnan(value)} == missing
    assert scalars(distinct_record(alerts={})).keys() == {t for t in EXPECTED if not t.startswith("alerts/")}
    assert scalars(distinct_record())["separation/separated"] == 1
    regime = replace(distinct_record().regime, name="separating")
    assert scalars(distinct_record(regime=regime))["separation/separated"] == 0


@pytest.mark.parametrize("probe", [False, True])
def test_loggers_get_at_most_24_by_default(probe):
    monitor = SeparationMonitor(3, MonitorSettings(probe=probe))
    record = monitor.close(50)
    record = distinct_record(coefficients=record.coefficients, step_response=record.step_response)
    few, everything = scalars(record, "essential"), scalars(record)
    assert len(few) <= 24 < len(everything)
    assert few.keys() < everything.keys()
    assert {
        "le/I_logits/gamma", "le/I_logits/gamma_low", "le/I_logits/gamma_high", "le/I_logits/amplitude_difference",
        "separation/tail_local", "separation/features/discriminability_min", "etf/logits/angle_deviation_deg",
        "separation/features/nearest_mean_accuracy", "alerts/active",
    } <= few.keys()  # fmt: skip
    assert not any(tag.startswith("le/L_") or tag == "alerts/PairMerging" for tag in few)


def test_every_tag_is_explained():
    tags = [tag for group in GROUPS for tag in group.tags]
    assert len({tag.name for tag in tags}) == len(tags)
    for tag in tags:
        assert tag.meaning[-1] == "."
        assert tag.look_for
        assert tag.label
        assert tag.chart
        assert tag.better in ("higher", "lower", "neither")


def test_a_model_that_is_not_followed_has_no_tags():
    found = scalars(distinct_record(coefficients={"X_logits": coefficients("X", Source("logits"), 0.0)}))
    assert found["le/X_logits/alpha"] == 5.0
    assert not any("I_logits" in tag for tag in found)
    assert not any(tag.startswith("le/X_") for tag in scalars(distinct_record(), "essential"))


def test_unknown_level():
    with pytest.raises(ValueError, match="`tags` to be one of 'essential', 'all', but got 'few'"):
        LECallback(tags="few")
