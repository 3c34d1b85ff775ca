"""Calibrations: what they predict, how good they say they are, and the files that they come in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Residual, image
from transformed import network

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.legality.calibration import (
    Calibration,
    CalibrationNetwork,
    Provenance,
    structure_fingerprint,
)
from loopmorph.pipelines.legality.calibration_file import (
    MAX_BYTES,
    load_calibration,
    save_calibration,
    shipped_calibration,
)
from loopmorph.pipelines.program import Program, import_model

MADE_FROM = Provenance("net", "0123456789abcdef", "images", 8, "by hand")


def calibration(losses: list[float], **signals: list[float]) -> Calibration:
    """Networks with these losses from 90 points, and these signals."""
    rows = [
        CalibrationNetwork(f"n{k}", {name: values[k] for name, values in signals.items()}, 90.0 - loss)
        for k, loss in enumerate(losses)
    ]
    return Calibration(MADE_FROM, 90.0, tuple(rows))


def ladder(count: int = 20) -> Calibration:
    """Losses that double where KL does, from 0.01 to 20 points."""
    kl = [10 ** (-3 + 3 * k / (count - 1)) for k in range(count)]
    return calibration([20 * value for value in kl], kl=kl, compression=[1.0 + k % 3 for k in range(count)])


@pytest.fixture(scope="module")
def shipped() -> Calibration:
    return shipped_calibration("")


def test_what_was_measured_is_predicted() -> None:
    found = ladder().predict({"kl": 10 ** (-3 + 3 * 10 / 19)})
    assert found.expected == pytest.approx(20 * 10 ** (-3 + 30 / 19))
    assert found.low < found.expected < found.high and not found.beyond
    assert found.signals == ("kl",) and found.level == 0.9


def test_signals_that_the_calibration_lacks_are_left_aside() -> None:
    assert ladder().predict({"kl": 0.1, "residual": 5.0}) == ladder().predict({"kl": 0.1})


def test_a_prediction_as_text() -> None:
    losses = [0.0, 0.1, 0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.5, 2.0]
    made = calibration(losses, kl=[0.01 * 2**k for k in range(10)])
    assert re.fullmatch(r"0\.4 points, -?\d\.\d to \d\.\d at 80%", str(made.predict({"kl": 0.16}, level=0.8)))
    assert str(made.predict({"kl": 9.0})) == "at least 2.0 points: beyond every network of the calibration"


@pytest.mark.parametrize(
    ("signals", "level", "message"),
    [
        ({}, 0.9, "'signals': expected at least one of compression, kl"),
        ({"residual": 1.0}, 0.9, "'signals': expected at least one of compression, kl"),
        ({"kl": math.nan}, 0.9, "'signals': kl is nan; a number of at least 0 is expected"),
        ({"kl": -0.1}, 0.9, r"'signals': kl is -0\.1; a number of at least 0 is expected"),
        ({"kl": "0.1"}, 0.9, r"'signals': kl is '0\.1'; a number of at least 0 is expected"),
        ({"kl": 0.1}, 1.0, r"'level': expected a share between 0 and 1, got 1\.0"),
        ({"kl": 0.1}, math.nan, "'level': expected a share between 0 and 1, got nan"),
    ],
)
def test_what_cannot_be_predicted(signals: dict[str, float], level: float, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ladder().predict(signals, level)


def test_the_quality_of_a_perfect_signal() -> None:
    found = ladder().quality(limit=1.0)
    assert found.networks == 20 and found.beyond == 1
    assert found.spearman == pytest.approx(1.0, abs=0.005)  # the first, left out, is as good as the second
    assert found.spearman_equal_macs == pytest.approx(1.0, abs=0.005)
    assert found.rejected == 9 and found.precision == 1.0
    assert found.accepted == 11 and found.accepted_wrongly == 0


def test_a_signal_that_is_noise_is_worth_nothing() -> None:
    kl = [0.01 * (1 + (7 * k) % 20) for k in range(20)]
    found = calibration([0.1 * k for k in range(20)], kl=kl).quality()
    assert found.spearman is not None and found.spearman < 0.5
    assert found.spearman_equal_macs is None  # nothing tells the size


def test_equal_macs_are_told_from_size() -> None:
    """Losses that follow size alone are predicted well over all, and not at all at equal MACs."""
    size = [1.0 + k for k in range(20)]
    wiggle = [1.0 if k % 2 else -1.0 for k in range(20)]
    made = calibration([0.5 * s + 0.6 * w for s, w in zip(size, wiggle, strict=True)], kl=size, compression=size)
    found = made.quality(signals=("kl",))
    assert found.spearman is not None and found.spearman > 0.9
    assert found.spearman_equal_macs is not None and found.spearman_equal_macs < 0.0


def test_quality_by_an_unknown_signal() -> None:
    with pytest.raises(ArgumentError, match="'signals': 'naswot' is not known; there are compression, kl"):
        ladder().quality(signals=("kl", "naswot"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, networks=c.networks[:2]), "expected 3 to 1,024 networks, got 2"),
        (lambda c: replace(c, accuracy=101.0), r"the original: an accuracy of 101\.0; points from 0 to 100"),
        (lambda c: replace(c, accuracy=math.nan), "the original: an accuracy of nan"),
        (
            lambda c: replace(c, networks=(replace(c.networks[0], signals={"kl": -1.0}), *c.networks[1:])),
            r"network 1: kl is -1\.0; a finite number of at least 0 is expected",
        ),
        (
            lambda c: replace(c, networks=(replace(c.networks[0], signals={"kl": math.inf}), *c.networks[1:])),
            "network 1: kl is inf",
        ),
        (
            lambda c: replace(c, networks=(replace(c.networks[0], signals={"other": 1.0}), *c.networks[1:])),
            "there is no signal that all of them have",
        ),
    ],
)
def test_what_is_no_calibration(change: Callable[[Calibration], Calibration], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        change(ladder())


# --- structure ---


def test_the_structure_is_that_of_the_original_whatever_its_batch_names_and_weights(residual: Program) -> None:
    own = structure_fingerprint(residual)
    assert structure_fingerprint(residual.apply("morph-depthwise{layer=block1.conv1}")) == own
    assert structure_fingerprint(import_model(Residual().eval(), (image(batch=3),))) == own
    wrapped = torch.nn.Sequential(Residual().eval())
    assert structure_fingerprint(import_model(wrapped, (image(),))) == own


def test_other_structures_differ(residual: Program) -> None:
    own = structure_fingerprint(residual)
    assert structure_fingerprint(import_model(Residual().eval(), (image(size=16),))) != own
    assert structure_fingerprint(network(lambda: Residual(classes=7))) != own


# --- the shipped one ---


def test_the_shipped_calibration_is_one_of_resnet34() -> None:
    loaded = resolve_model("resnet34")
    fingerprint = structure_fingerprint(import_model(loaded.model, loaded.example_inputs))
    assert shipped_calibration(fingerprint).fits(fingerprint)


def test_the_shipped_calibration_is_borrowed_by_others(shipped: Calibration, residual: Program) -> None:
    assert not shipped.fits(structure_fingerprint(residual))
    assert shipped.signals == ("compression", "drop", "early-loss", "kl") and len(shipped.networks) == 108


@pytest.mark.parametrize(
    ("signals", "over_all", "equal_macs"),
    [(("kl",), 0.88, 0.68), (("compression", "drop", "kl"), 0.89, 0.7), (("early-loss",), 0.89, 0.7)],
    ids=["joint KL", "no training", "first steps"],
)
def test_the_shipped_calibration_on_networks_left_out(
    shipped: Calibration, signals: tuple[str, ...], over_all: float, equal_macs: float
) -> None:
    found = shipped.quality(signals=signals)
    assert found.spearman is not None and found.spearman >= over_all
    assert found.spearman_equal_macs is not None and found.spearman_equal_macs >= equal_macs
    assert 0.85 <= found.coverage <= 0.95
    assert found.rejected >= 30 and found.precision is not None and found.precision >= 0.9
    assert found.accepted >= 50 and found.accepted_wrongly == 0


# --- files ---


def content_of(made: Calibration, folder: Path) -> dict[str, Any]:
    save_calibration(made, folder / "c.json")
    found: dict[str, Any] = json.loads((folder / "c.json").read_text())
    return found


def test_a_file_gives_the_same_calibration(tmp_path: Path) -> None:
    save_calibration(ladder(), tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json") == ladder()
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]


def test_every_truncation_is_told(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    save_calibration(ladder(4), file)
    whole = file.read_bytes()
    for end in range(0, len(whole) - 2, 7):
        file.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"c\.json: is truncated or not JSON: "):
            load_calibration(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is truncated or not JSON"),
        (b"\xff\xfe", "is truncated or not JSON: 'utf-8' codec"),
        (b"[1, 2]", r"is not a calibration \(format 'loopmorph-calibration' is expected\)"),
        (b'{"format": "other"}', "is not a calibration"),
        (b"[" * 100_000, "is not a calibration: it is nested too deeply"),
        (b'{"format": NaN}', "is truncated or not JSON: NaN is no number"),
        (b'{"format": "loopmorph-calibration", "version": ' + b"9" * 5000 + b"}", "is truncated or not JSON"),
        (b'{"format": "loopmorph-calibration"}', "is a calibration of version missing; version 1 is read"),
        (b'{"format": "loopmorph-calibration", "version": true}', "is a calibration of version True"),
        (b'{"format": "loopmorph-calibration", "version": 2}', "is a calibration of version 2; version 1 is read"),
    ],
    ids=["empty", "binary", "list", "other", "deep", "nan", "digits", "no version", "true", "version 2"],
)
def test_files_that_are_something_else(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "c.json").write_bytes(text)
    with pytest.raises(DataError, match=rf"c\.json: {message}"):
        load_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("networks",), {}, "'networks' is a dict of 0; a list is expected"),
        (("networks",), [], "expected 3 to 1,024 networks, got 0"),
        (("networks", 1), 7, "network 2 is 7; an object is expected"),
        (("networks", 1, "signals"), [0.1], "network 2: 'signals' is a list of 1; an object of at most 16 numbers"),
        (("networks", 1, "signals"), {str(k): 1 for k in range(17)}, "'signals' is a dict of 17; an object of at most"),
        (("networks", 1, "signals", "kl"), -0.5, r"network 2: kl is -0\.5; a finite number of at least 0"),
        (("networks", 1, "signals", "kl"), "0.5", r"network 2: signal 'kl' is '0\.5'; a finite number is expected"),
        (("networks", 1, "signals", "kl"), None, "network 2: signal 'kl' is missing; a finite number is expected"),
        (("networks", 1, "signals", "kl"), True, "network 2: signal 'kl' is True; a finite number is expected"),
        (("networks", 1, "signals", "kl"), 10**400, "network 2: signal 'kl' is a huge integer; a finite number"),
        (("networks", 1, "accuracy"), 101, r"network 2: an accuracy of 101\.0; points from 0 to 100"),
        (("networks", 1, "name"), None, "network 2: 'name' is missing; a text of at most 65536 characters"),
        (("networks", 1, "name"), "n" * 65537, "network 2: 'name' is a text of 65539 characters; a text of at most"),
        (("accuracy",), [90], "'accuracy' is a list of 1; a finite number is expected"),
        (("epochs",), 1.5, r"'epochs' is 1\.5; a count is expected"),
        (("fingerprint",), 7, "'fingerprint' is 7; a text"),
    ],
)
def test_damaged_contents(tmp_path: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    content: Any = content_of(ladder(4), tmp_path)
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"c\.json: is a damaged calibration: .*{message}"):
        load_calibration(tmp_path / "c.json")


def test_numbers_that_are_too_large_for_floats_are_told(tmp_path: Path) -> None:
    text = json.dumps(content_of(ladder(4), tmp_path)).replace('"accuracy": 90.0', '"accuracy": 1e999', 1)
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match="'accuracy' is inf; a finite number is expected"):
        load_calibration(tmp_path / "c.json")


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read: No such file"):
        load_calibration(tmp_path / "none.json")
    with pytest.raises(DataError, match="is not a file"):
        load_calibration(tmp_path)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"huge\.json: is larger than 16 MiB, so it is not a calibration"):
        load_calibration(tmp_path / "huge.json")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"cannot write '.*c\.json': No such file or directory"):
        save_calibration(ladder(4), tmp_path / "none" / "c.json")
