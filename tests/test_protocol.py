"""Protocols are data: every one can be named, changed, written down and read again."""

import json
import re

import pytest

from maskwright.errors import SettingsError
from maskwright.evaluation.matching import Spare
from maskwright.evaluation.protocol import Protocol, SpareSegments, named_protocols, parse_protocol

PAPERS = ["diffsegmenter", "maskdiffusion", "maskdiffusion-code", "diffseg", "diffcut", "seg4diff", "diffusionseg"]


@pytest.mark.parametrize("name", [*named_protocols()])
def test_every_named_protocol_survives_json_and_names_its_source(name: str) -> None:
    protocol = named_protocols()[name]
    assert protocol.name == name and protocol.source
    assert Protocol.from_dict(json.loads(json.dumps(protocol.as_dict()))) == protocol
    assert parse_protocol(name) == protocol


def test_the_papers_are_there_and_the_default_is_called_maskwright() -> None:
    assert {f"paper:{paper}" for paper in PAPERS} <= set(named_protocols())
    default = parse_protocol("maskwright")
    assert (default.labels, default.background, default.resolution, default.average) == ("all", "own", "original", "set")


def test_the_codes_grid_and_the_published_thresholds_are_the_published_ones() -> None:
    assert parse_protocol("paper:maskdiffusion-code").resolution == (256, 352)
    tried = parse_protocol("paper:diffsegmenter").thresholds
    assert (tried[0], tried[-1], len(tried)) == (0.3, 0.74, 45)


def test_changed_fields_are_part_of_the_name() -> None:
    changed = parse_protocol("paper:diffseg,spare=wrong,resolution=64x48,matching=picture")
    assert (changed.spare, changed.resolution, changed.only_predicted) == ("wrong", (64, 48), "zero")
    assert changed.name == "paper:diffseg,spare=wrong,resolution=64x48"
    alone = parse_protocol("background=best,thresholds=0.2/0.4,threshold=0.4")
    assert alone.name == "maskwright,background=best,thresholds=0.2/0.4,threshold=0.4"
    assert (alone.thresholds, alone.threshold) == ((0.2, 0.4), 0.4)


def test_what_decides_a_number_is_in_the_line_beside_it() -> None:
    oracle = parse_protocol("labels=present,background=best,average=pictures,resolution=8x9").describe()
    for part in ("oracle", "chosen on the ground truth", "mean over pictures", "8 x 9 pixels", "maskwright,labels=present"):
        assert part in oracle
    lines = [protocol.describe().partition(":")[2] for protocol in named_protocols().values()]
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paper:none", "no protocol 'paper:none': choose one of maskwright"),
        ("labels=some", "labels must be one of all, present, family, filtered"),
        ("maskwright,size=3", "'size=3' is not FIELD=VALUE with one of the fields labels"),
        ("resolution=3x", "write for instance resolution=512x512"),
        ("resolution=0x4", "resolution must be original or HEIGHTxWIDTH"),
        ("resolution=1x2x3", "resolution must be original or HEIGHTxWIDTH"),
        ("threshold=high", "write for instance threshold=0.5"),
        ("threshold=nan", "finite"),
        ("thresholds=0.4/0.2", "must rise"),
        ("spare=stego", "add matching=dataset"),
        ("matching=dataset,spare=background", "add matching=picture"),
        ("name=mine", "is not FIELD=VALUE"),
    ],
)  # fmt: skip
def test_a_wrong_protocol_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        parse_protocol(text)


def test_an_unknown_field_of_a_file_is_refused() -> None:
    with pytest.raises(SettingsError, match="no field size"):
        Protocol.from_dict({"size": 3})


def test_spare_segments_are_those_of_matching() -> None:
    assert SpareSegments == Spare
