"""What of the log shares an axis."""

import math

from tupelo.report.charts import best_step, training_charts
from tupelo.report.figures import ROWS, curves


def row(step, **values):
    return {"step": step, "epoch": 1, **values}


LOG = [
    row(1, lr=0.1, loss=2.0, pulled=1.0, gradient=9.0, active=1.0, images_per_second=5.0),
    row(2, lr=0.1, loss=1.0, pulled=0.5, gradient=8.0, active=0.9, images_per_second=5.0,
        **{"val/map@r": 0.3, "val/recall@1": 0.5, "val/n_queries": 7, "val/precision@1": 0.5}),
    row(3, lr=0.0, loss=0.5, pulled=0.2, gradient=7.0, active=0.8, images_per_second=5.0,
        **{"val/map@r": 0.3, "val/recall@1": 0.6, "val/n_queries": 7, "val/precision@1": 0.6}),
]  # fmt: skip


def test_columns_are_grouped():
    found = training_charts(LOG)
    assert [chart.title for chart in found.large] == ["Loss and its parts", "Validation scores"]
    assert [entry.label for entry in found.large[0].legend] == ["loss", "pulled"]
    assert [entry.label for entry in found.large[1].legend] == ["MAP@R", "Recall@1"]
    titles = ["Learning rate", "Norm of the gradient", "active", "Pictures per second"]
    assert [chart.title for chart in found.small] == titles
    assert found.best_step == 2  # the first of equal ones is kept
    assert found.large[0].alt == "loss from 2 to 0.5; pulled from 1 to 0.2"


def test_what_chooses_an_autoencoder_marks_the_step_and_is_not_drawn():
    rows = [
        row(1, loss=2.0, **{"val/accuracy": 1.0, "val/negative_elbo": 180.0, "val/choice": 1.1}),
        row(2, loss=1.0, **{"val/accuracy": 1.0, "val/negative_elbo": 150.0, "val/choice": 1.2}),
    ]
    found = training_charts(rows)
    assert found.best_step == 2
    assert "choice" not in str([entry.label for entry in found.large[1].legend])


def test_an_empty_log_has_no_charts():
    found = training_charts([])
    assert (found.large, found.small, found.best_step) == ([], [], None)
    assert best_step([row(1, **{"val/map@r": math.nan})]) is None


def test_many_statistics_are_cut_with_a_note():
    found = training_charts([row(1, **{f"s{n}": 1.0 for n in range(20)})])
    assert len(found.small) == 9
    assert found.note == "11 more figures could be drawn of metrics.csv."


def test_what_is_no_number_leaves_a_gap():
    log = [row(1, a=1.0), row(2, a=math.nan), row(3, a=math.inf), row(4), row(5, a=3.0)]
    drawn = curves(log, ["a", "b"], title="", key="k")
    values = drawn.figure.renderers[0].data_source.data
    assert values["x"].tolist() == [1, 2, 3, 5]
    assert [math.isnan(y) for y in values["y"]] == [False, True, True, False]
    assert curves(log, ["b"], title="", key="k") is None
    assert curves([row(1, a=math.inf)], ["a"], title="", key="k") is None


def test_an_axis_is_logarithmic_where_it_helps_and_can_be():
    def kind(values, **more):
        log = [row(step, a=value) for step, value in enumerate(values)]
        return type(curves(log, ["a"], title="", key="k", **more).figure.yaxis[0]).__name__

    assert kind([1.0, 1000.0]) == "LogAxis"
    assert kind([1.0, 50.0]) == "LinearAxis"
    assert kind([0.0, 1000.0]) == "LinearAxis"
    assert kind([1.0, 2.0], log=True) == "LogAxis"
    assert kind([-1.0, 2.0], log=True) == "LinearAxis"


def test_a_very_long_log_is_thinned_with_both_ends():
    log = [row(step, a=float(step)) for step in range(10 * ROWS)]
    data = curves(log, ["a"], title="", key="k").figure.renderers[0].data_source.data
    assert len(data["x"]) == ROWS
    assert (data["x"][0], data["x"][-1]) == (0, 10 * ROWS - 1)


def test_columns_of_several_learners_share_a_figure():
    log = [row(1, loss=1.0, gradient=1.0, **{"a/active": 0.5, "b/active": 0.25, "b/kept": 3.0})]
    small = training_charts(log).small
    assert [chart.title for chart in small] == ["Norm of the gradient", "active", "b/kept"]
    assert [entry.label for entry in small[1].legend] == ["a", "b"]


def test_every_axis_is_labelled():
    found = training_charts(LOG)
    for chart in (*found.large, *found.small):
        assert chart.figure.xaxis[0].axis_label.text == "step"
    assert [chart.figure.yaxis[0].axis_label.text for chart in found.large] == [
        "loss",
        "score, 0 to 1",
    ]
