from tupelo.report.learners import learners_section

MEASURED = {
    "alone": [
        {"width": 2, "recall@1": 0.4, "map@r": 0.1},
        {"width": 4, "recall@1": 0.6, "map@r": 0.3},
    ],
    "recall@1": 0.75,
    "map@r": 0.5,
    "mean_recall@1": 0.5,
    "mean_map@r": 0.2,
    "gap": 0.25,
    "correlation": 0.125,
}


def test_a_run_without_learners_has_no_section():
    assert learners_section({"after": {}}, []) is None
    assert learners_section({"learners": {}}, []) is None


def test_table_bars_and_what_they_say():
    section = learners_section({"learners": MEASURED}, [{"step": 1, "val/recall@1": 0.5}])
    assert section is not None
    assert "correlation of 0.125" in section.text
    assert "cosine" not in section.text
    table, bars = section.parts
    assert [list(row) for row in table.rows] == [
        ["1", 2, 0.4, 0.1],
        ["2", 4, 0.6, 0.3],
        ["mean", "", 0.5, 0.2],
        ["together", 6, 0.75, 0.5],
        ["together above mean", "", 0.25, 0.3],
    ]
    assert list(bars.values) == [0.4, 0.6, 0.75]


def test_validation_is_a_curve_where_it_was_logged():
    rows = [{"step": 1, "val/recall@1": 0.5, "val/mean_recall@1": 0.4}]
    section = learners_section({"learners": MEASURED | {"self_cosine": 0.3}}, rows)
    assert section is not None
    assert "mean cosine of 0.300" in section.text
    assert section.parts[-1].columns == ("val/recall@1", "val/mean_recall@1")


def test_one_learner_needs_no_bars():
    one = {**MEASURED, "alone": MEASURED["alone"][:1]}
    section = learners_section({"learners": one}, [])
    assert section is not None
    assert len(section.parts) == 1
