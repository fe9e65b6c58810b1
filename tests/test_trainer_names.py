"""Names of trainers that carry their options: one spelling for each setting, and errors that say what is wrong."""

from __future__ import annotations

import itertools
import pickle

import pytest

from nnunet_ici import cli, trainers
from nnunet_ici.trainers.names import LOSSES, OPTIONS, TRAINERS, TrainerNameError, default, options_of, parse


def test_the_name_in_the_readme():
    parsed = parse("nnUNetTrainerICI_g0p25_i0p5_c0p25_250epochs")
    assert parsed.loss == "nnUNetTrainerICI" and parsed.base == ""
    assert parsed.attributes == {
        "global_weight": 0.25,
        "instance_weight": 0.5,
        "center_weight": 0.25,
        "epochs": 250,
    }


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("nnUNetTrainerDICI_p2", {"predicted_weight": 2.0}),
        ("nnUNetTrainerDual_tau0p5", {"threshold": 0.5}),
        ("nnUNetTrainerICI_size5", {"center_size": 5}),
        ("nnUNetTrainerICI_finest", {"finest_scale_only": True}),
        ("nnUNetTrainerICI_eq3", {"exclude_other_instances": False}),
        ("nnUNetTrainerICI_focal", {"inner": "focal"}),
        ("nnUNetTrainerBlob_diceCE", {"inner": "dice_ce"}),
        ("nnUNetTrainerBlob_g1_w2p5", {"global_weight": 1.0, "term_weight": 2.5}),
        ("nnUNetTrainerDBCE_radius0", {"radius": 0}),
        (
            "nnUNetTrainerInstanceFamily_r0p5_d0_f2_numbers",
            {"false_rate_weight": 0.5, "proximity_weight": 0.0, "false_weight": 2.0, "rates": False},
        ),
        ("nnUNetTrainerRRW_g1_globalDiceFocal", {"global_weight": 1.0, "global_loss": "dice_focal"}),
        ("nnUNetTrainerBoundary_globalDice", {"global_loss": "dice"}),
        ("nnUNetTrainerIW_1epoch", {"epochs": 1}),
    ],
)
def test_options_set_class_attributes(name, attributes):
    assert parse(name).attributes == attributes
    cls = getattr(trainers, name)
    assert {key: getattr(cls, key) for key in attributes} == attributes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nnUNetTrainerICI_foo",
            "'foo'. Options of nnUNetTrainerICI, in this order: g0p5, i0p5, c0p5, size5, tau0p5",
        ),
        ("nnUNetTrainerICI_", "unknown option ''"),
        ("nnUNetTrainerICI_p0p5", "unknown option 'p0p5'"),  # that is DICI's
        ("nnUNetTrainerICI_g0p50", "unknown option 'g0p50'"),
        ("nnUNetTrainerICI_g00p5", "unknown option 'g00p5'"),
        ("nnUNetTrainerICI_g.5", "unknown option 'g.5'"),
        ("nnUNetTrainerICI_05epochs", "unknown option '05epochs'"),
        ("nnUNetTrainerICI_0epochs", "unknown option '0epochs'"),
        ("nnUNetTrainerICI_1epochs", "as in nnU-Net, write '1epoch'. Got: '1epochs'"),
        ("nnUNetTrainerICI_5epoch", "as in nnU-Net, write '5epochs'. Got: '5epoch'"),
        ("nnUNetTrainerICI_5epochs_6epochs", "'6epochs' sets the same option as '5epochs'"),
        ("nnUNetTrainerICI_1000epochs", "'1000epochs' is the default of nnUNetTrainerICI: leave it out"),
        ("nnUNetTrainerICI_tauRandom", "'tauRandom' is the default"),
        ("nnUNetTrainerICI_size7", "'size7' is the default"),
        ("nnUNetTrainerBlob_g2", "'g2' is the default of nnUNetTrainerBlob"),
        ("nnUNetTrainerICI_i0p5_g0p5", "options are out of order. Expected: nnUNetTrainerICI_g0p5_i0p5"),
        ("nnUNetTrainerICI_5epochs_NoMirroring", "Expected: nnUNetTrainerICI_NoMirroring_5epochs"),
        ("nnUNetTrainerICI_NoMirroring_DA5", "'DA5' sets the same option as 'NoMirroring'"),
        ("nnUNetTrainerICI_size4", "the size of center cubes must be odd. Got: 'size4'"),
        ("nnUNetTrainerICI_tau0", "a threshold must lie in (0, 1]. Got: 'tau0'"),
        ("nnUNetTrainerICI_tau1p5", "Got: 'tau1p5'"),
        ("nnUNetTrainerICI_eq3_bce", "'bce' and 'eq3' cannot be combined"),
        ("nnUNetTrainerDICI_p0", "another name for nnUNetTrainerICI"),
        ("nnUNetTrainerDICI_c0", "another name for nnUNetTrainerDual"),
        ("nnUNetTrainerInstanceFamily_r0_d0", "another name for nnUNetTrainerDICI"),
        ("nnUNetTrainerInstanceFamily_r0_numbers", "'numbers' without a term that uses it"),
        ("nnUNetTrainerDBCE_g1_globalDice", "another name for nnUNetTrainerDiceDBCE"),
        ("nnUNetTrainerICI_c0_size5", "'size5' without a center term"),
        ("nnUNetTrainerICI_i0_focal", "'focal' without a term that uses it"),
        ("nnUNetTrainerRRW_globalDice", "'globalDice', but the global loss has weight 0: add _g1"),
        ("nnUNetTrainerRRW_w0", "all weights are 0"),
        ("nnUNetTrainerICI_g0_i0_c0", "all weights are 0"),
    ],
)
def test_wrong_options_are_named(name, message, capsys, monkeypatch):
    monkeypatch.setattr(trainers, "_hinted", set())  # of whoever asked before
    monkeypatch.setattr("atexit.register", lambda function, *args, **keywords: function(*args, **keywords))
    with pytest.raises(TrainerNameError) as error:
        parse(name)
    assert message in str(error.value)
    assert not hasattr(trainers, name)  # as nnU-Net asks
    assert message in capsys.readouterr().err
    assert not hasattr(trainers, name)
    assert capsys.readouterr().err == ""  # it asks more than once; one hint is enough


def test_names_of_others_get_no_hint(capsys):
    for name in ("nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerICE", "nnUNetTrainerDA5", "something"):
        assert not hasattr(trainers, name)
        with pytest.raises(KeyError):
            parse(name)
    assert capsys.readouterr().err == ""


def test_no_two_names_for_one_setting():
    """Of all orders of three options, exactly one is accepted."""
    words = ("g0p5", "size5", "5epochs")
    taken = []
    for order in itertools.permutations(words):
        try:
            taken.append(parse("_".join(["nnUNetTrainerICI", *order])))
        except TrainerNameError:
            continue
    assert len(taken) == 1


def test_defaults_are_those_of_the_classes():
    for loss in TRAINERS:
        cls = getattr(trainers, loss)
        for key in options_of(loss):
            attribute = OPTIONS[key].attribute
            if attribute and attribute != "epochs":
                assert getattr(cls, attribute) == default(loss, attribute), (loss, attribute)


@pytest.mark.parametrize("base", ["NoMirroring", "DA5", "probOversampling"])
def test_nnunets_own_variants_as_base(base):
    cls = getattr(trainers, f"nnUNetTrainerDual_{base}_5epochs")
    host = cls.__mro__[-(len(cls.__mro__) - [c.__module__.startswith("nnunetv2") for c in cls.__mro__].index(True))]
    assert base.lower().removeprefix("prob").removesuffix("pling") in host.__name__.lower()
    assert cls.__mro__.index(trainers.nnUNetTrainerDual) < cls.__mro__.index(host)
    assert cls.epochs == 5 and cls.predicted_weight == 1
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_every_loss_and_option_is_listed(capsys):
    assert cli.main(["trainers"]) == 0
    out = capsys.readouterr().out
    assert all(loss in out for loss in LOSSES) and all(f"_{option.shown}" in out for option in OPTIONS.values())


def test_a_name_is_explained_or_refused(capsys):
    assert cli.main(["trainers", "nnUNetTrainerICI_i0p5_NoMirroring"]) == 0
    out = capsys.readouterr().out
    assert "* instance_weight: 0.5" in out and "  global_weight: 1" in out and "* base: NoMirroring" in out
    assert cli.main(["trainers", "nnUNetTrainerICI_i1", "nnUNetTrainerFoo"]) == 1
    err = capsys.readouterr().err
    assert (
        "'i1' is the default" in err
        and "nnUNetTrainerFoo: not a trainer of this package. Expected: nnUNetTrainerICI" in err
    )
