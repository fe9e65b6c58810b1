"""What the charts of a report show, and where its training curves come from."""

from __future__ import annotations

import math

import pytest

from nnunet_ici.drawing import model_style
from nnunet_ici.drawing.style import in_figure, plain_style, svg_of
from nnunet_ici.evaluation.folders import Case
from nnunet_ici.report.case_charts import draw_agreement, draw_scores, draw_volumes, limits_of_agreement
from nnunet_ici.report.lesion_charts import draw_froc, draw_recall, draw_sizes, wilson
from nnunet_ici.report.training import find_fold_folders, parse_trainings, read_curves
from nnunet_ici.report.training_charts import draw_curves, training_charts

EVIL = "<script>alert('1')</script> & \"$x$\""


LOG = """\

#######################################################################
2026-01-02 10:00:00.000001: Epoch {0} 
2026-01-02 10:00:00.000002: Current learning rate: 0.01 
2026-01-02 10:00:00.000003: train_loss {1} 
2026-01-02 10:00:00.000004: val_loss {2} 
2026-01-02 10:00:00.000005: Pseudo dice {3} 
2026-01-02 10:00:00.000006: Epoch time: 12.5 s 
"""  # noqa: W291


def make_fold(folder, terms=True):
    folder.mkdir(parents=True)
    first = [(0, 0.5, 0.75, "[np.float32(0.25), np.float32(nan)]"), (1, 0.25, 0.5, "[0.5, 0.125]")]
    # taken up again a month later, from epoch 1 on
    second = [(1, -0.25, -1e-05, "[0.625, 0.25]"), (2, "nan", -0.5, "[0.75, 0.5]")]
    for name, lines in (("2026_9_02_10_00_00", first), ("2026_10_02_10_00_00", second)):
        (folder / f"training_log_{name}.txt").write_text("".join(LOG.format(*line) for line in lines))
    if terms:
        (folder / "terms_ici.csv").write_text(
            "epoch,train_global,train_instance,val_global,val_instance,"
            "val_label_instances,val_missed_instances,val_predicted_instances,val_false_instances,"
            "val_lesion_dice,ema_lesion_dice\n"
            "0,-0.5,0.75,-0.25,nan,8,4,0,0,0.5,0.5\n1,-0.625,0.5,-0.5,0.25,8,2,5,1,0.25,0.475\n"
        )
    return folder


def values_of(curves, chart, curve=None, phase=None):
    """Epochs and values of one curve."""
    points = curves.points[curves.points["chart"] == chart]
    for column, value in (("curve", curve), ("phase", phase)):
        points = points if value is None else points[points[column] == value]
    return dict(zip(points["epoch"], points["value"], strict=True))


def test_curves(tmp_path):
    curves = read_curves("A", make_fold(tmp_path / "fold_0"))
    assert curves.epochs == 3 and curves.title == "A, fold_0"
    assert values_of(curves, "loss", phase="validation") == {0: 0.75, 1: -1e-05, 2: -0.5}
    training = values_of(curves, "loss", phase="training")
    assert list(training) == [0, 1, 2] and training[1] == -0.25 and math.isnan(training[2])
    assert values_of(curves, "dice", "class 1") == {0: 0.25, 1: 0.625, 2: 0.75}
    assert math.isnan(values_of(curves, "dice", "class 2")[0])
    assert set(curves.points[curves.points["chart"] == "terms"]["curve"]) == {"global", "instance"}
    assert values_of(curves, "validation terms", "global", "validation") == {0: -0.25, 1: -0.5}
    assert values_of(curves, "scores", "lesion-wise Dice") == {0: 0.5, 1: 0.25}
    assert values_of(curves, "scores", "lesion-wise Dice, exponential mean") == {0: 0.5, 1: 0.475}
    assert values_of(curves, "mistakes", "missed lesions") == {0: 0.5, 1: 0.25}
    false = values_of(curves, "mistakes", "false predictions")
    assert math.isnan(false[0]) and false[1] == 0.2
    plain = read_curves("B", make_fold(tmp_path / "fold_1", terms=False))
    assert set(plain.points["chart"]) == {"loss", "dice"} and plain.epochs == 3


def test_a_training_begun_anew_replaces_the_old_one(tmp_path):
    folder = make_fold(tmp_path / "fold_0", terms=False)
    (folder / "training_log_2027_1_1_00_00_00.txt").write_text(LOG.format(0, 2, 3, "[0.5]"))
    curves = read_curves("A", folder)
    assert curves.epochs == 1 and curves.points["value"].tolist() == [2, 3, 0.5]


def test_broken_curves(tmp_path):
    folder = make_fold(tmp_path / "fold_0")
    (folder / "terms_ici.csv").write_text("epoch,train_global\n0,much\n")
    with pytest.raises(
        ValueError, match=r"terms_ici.csv cannot be read. Expected: a column epoch, and numbers. Got: .*much"
    ):
        read_curves("A", folder)
    (folder / "terms_ici.csv").unlink()
    for path in folder.iterdir():
        path.write_text("2026-01-02 10:00:00.000001: Epoch 0 \n")
    with pytest.raises(ValueError, match=r"holds no curve. Expected: at least one epoch in the logs. Got: none"):
        read_curves("A", folder)


def test_where_trainings_are_found(tmp_path):
    folds = [make_fold(tmp_path / "trainer" / f"fold_{number}") for number in (1, 0)]
    (tmp_path / "trainer" / "fold_2").mkdir()
    found, problems = parse_trainings([f"A={tmp_path / 'trainer'}", f"B=C={folds[0]}"], None)
    assert found == [("A", folds[1]), ("A", folds[0])] and "B=C" in problems[0]
    case = Case(
        "one",
        tmp_path / "gt" / "one.nii.gz",
        {
            "A": folds[0] / "validation" / "one.nii.gz",
            "B": tmp_path / "trainer" / "fold_2" / "validation" / "one.nii.gz",
            "C": tmp_path / "C" / "one.nii.gz",
            "D": None,
        },
    )
    assert find_fold_folders([case, case]) == [("A", folds[0])]


def instance(kind, size, found):
    return {"kind": kind, "size": size, "found": found}


def test_the_figure_of_sizes():
    rows = [instance("label", 10, 1), instance("label", 20, 1), instance("label", 2, 0), instance("predicted", 3, 0)]
    figure = draw_sizes({"A": [*rows, instance("predicted", 9, 1)], EVIL: []}, "mm³")
    axis, empty = figure.axes
    sizes = [points.get_offsets()[:, 0].tolist() for points in axis.collections[:3]]
    assert sizes == [[10, 20], [2], [3]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["found: 2", "missed: 1", "false: 1"]
    assert [label.get_text() for label in empty.get_yticklabels()] == ["found: 0", "missed: 0", "false: 0"]
    assert axis.get_xscale() == "log" and empty.get_xlabel().endswith("(mm³)")
    assert len({points.get_paths()[0].vertices.shape for points in axis.collections[:3]}) == 3  # three shapes


def size_group(low, high, label, found, false):
    return {"from": low, "to": high, "label": label, "found": found, "false": false} | {
        "recall": found / label if label else math.nan
    }


def test_the_figure_of_recall():
    groups = [size_group(0, 10, 10, 8, 3), size_group(10, math.inf, 0, 0, 1)]
    figure = draw_recall({"A": groups, "B": groups}, "mm²")
    upper, lower = figure.axes
    assert [label.get_text() for label in upper.get_xticklabels()] == [
        "below 10\n10 lesions",
        "10 and\nmore\n0 lesions",
    ]
    points = upper.containers[0].lines[0].get_ydata()
    assert points[0] == 0.8 and math.isnan(points[1])
    low, high = wilson(8, 10)
    assert upper.containers[0].lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([low, high])
    assert [bar.get_height() for bar in lower.patches] == [3, 1, 3, 1]
    assert lower.patches[0].get_hatch() != lower.patches[2].get_hatch()
    assert len(draw_recall({str(number): groups for number in range(7)}, "mm²").axes) == 1
    assert all(math.isnan(edge) for edge in wilson(0, 0))


def test_the_figure_of_froc():
    curve = {"false_per_case": [0.0, 0.5, 20.0], "sensitivity": [0.0, 0.5, 1.0], "at": [0.0] * 7}
    axis = draw_froc({"B": curve}, ["A", "B"]).axes[0]
    assert axis.lines[0].get_xdata().tolist() == [0.0, 0.5, 20.0]
    assert axis.lines[0].get_color() == model_style(1)["color"] and axis.get_xlim()[1] == 32


def test_the_figure_of_scores():
    (axis,) = draw_scores({"A": [0.0, 0.5, 1.0, math.nan], EVIL: [math.nan]}, "Dice").axes
    assert axis.get_xlabel() == "Dice" and [len(points.get_offsets()) for points in axis.collections] == [3, 0]
    assert sorted(axis.collections[0].get_offsets()[:, 0]) == [0, 0.5, 1]
    lines = [line.get_xdata() for line in axis.lines]
    assert sorted({*lines[0]}) == [0.25, 0.75]  # the box, from the lower to the upper quartile
    assert any(list(line) == [0.5, 0.5] for line in lines)  # the median
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", in_figure(EVIL, 26)]


VOLUMES = {"A": ([1.0, 0.0, 100.0], [2.0, 3.0, 90.0]), EVIL: ([0.0], [0.0]), "C": ([5.0], [9.0])}


def test_volumes_of_all_models_lie_on_the_same_axes():
    for draw in (draw_volumes, draw_agreement):
        axes = draw(VOLUMES, "ml").axes
        assert [axis.get_title(loc="left") for axis in axes] == ["A", in_figure(EVIL, 24), "C"]
        assert len({(axis.get_xlim(), axis.get_ylim()) for axis in axes}) == 1
        assert all(axis.get_xscale() == "symlog" for axis in axes)  # shows 0
        assert axes[0].get_xticks().tolist() == [0, 1, 10, 100]
        assert len({axis.collections[0].get_facecolor().tobytes() for axis in axes}) == 3
        assert len(draw({"A": VOLUMES["A"]}, "ml").axes) == 1


def test_the_figures_of_volumes():
    axis = draw_volumes(VOLUMES, "ml").axes[0]
    assert axis.collections[0].get_offsets().tolist() == [[1, 2], [0, 3], [100, 90]]
    assert axis.get_xlim() == axis.get_ylim() and len(axis.lines) == 1  # the line of equal volumes
    axis, single, _ = draw_agreement(VOLUMES, "ml").axes
    assert axis.get_yscale() == "linear" and axis.collections[0].get_offsets()[:, 1].tolist() == [1, 3, -10]
    mean, low, high = limits_of_agreement(*VOLUMES["A"])
    assert mean == -2 and high - mean == pytest.approx(mean - low) == pytest.approx(1.96 * 7)
    assert [line.get_ydata()[0] for line in axis.lines] == [0, low, mean, high]
    assert [line.get_ydata()[0] for line in single.lines] == [0, 0]  # no limits of a single case
    assert math.isnan(limits_of_agreement([], [])[0]) and math.isnan(limits_of_agreement([1.0], [2.0])[1])


def test_the_figures_of_training(tmp_path):
    curves = read_curves("A", make_fold(tmp_path / "fold_0"))
    charts = training_charts([curves, curves])
    assert list(charts) == ["All trainings", "A, fold_0"] and len(charts["All trainings"]) == 1
    captions = [chart.title.split()[0] for chart in charts["A, fold_0"]]
    assert captions == ["Loss", "Loss", "Lesion", "Shares", "Loss,", "Pseudo"]
    assert list(training_charts([curves])) == ["A, fold_0"]
    (axis,) = draw_curves(curves.points[curves.points["chart"] == "terms"], "loss term").axes
    assert len(axis.lines) == 2 and axis.lines[0].get_ydata().tolist() == [-0.5, -0.625]
    assert {line.get_linestyle() for line in axis.lines} == {"-"}  # validation has a chart of its own
    (axis,) = draw_curves(curves.points[curves.points["chart"] == "loss"], "loss").axes
    assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
    figure = draw_curves(curves.points[curves.points["chart"] == "dice"], "pseudo Dice", whole=True)
    assert {line.get_linestyle() for line in figure.axes[0].lines} == {"-"}  # there is no other phase
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 1", "class 2"]


def test_names_in_figures():
    assert in_figure("$x$") == r"\$x\$" and in_figure("_x").lstrip("\N{THIN SPACE}") == "_x"
    assert in_figure("word " * 20).count("\n") == 2
    styles = [tuple(map(str, model_style(number).values())) for number in range(56)]
    assert len(set(styles)) == 56
    with plain_style():
        figure = draw_sizes({EVIL: [instance("label", 10, 1)]}, "mm³")
        assert svg_of(figure) == svg_of(figure) and b"<svg" in svg_of(figure)
