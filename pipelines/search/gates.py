"""Which gate a search has: the one that was asked for, or the one that suits the network and the data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.data.held_out import TooFewImages, load_in_two, split_in_two
from loopmorph.pipelines.legality.block_harm import BlockHarm, BlockImages
from loopmorph.pipelines.legality.block_signals import KL_BLOCK, RESIDUAL
from loopmorph.pipelines.legality.calibration import Calibration, structure_fingerprint
from loopmorph.pipelines.legality.calibration_file import load_calibration, shipped_calibration
from loopmorph.pipelines.legality.gate import BY_FISHER, BY_REPAIR, NOT_AT_ALL, Criterion, Gate
from loopmorph.pipelines.legality.predicted_loss import PredictedLoss, greatest_kl
from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.legality.trained import is_trained
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import REPAIR
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.training.task import Classification, Task, count_classes, image_shape

_ASKED = "it was asked for"
_JOINT = "a choice over all layers is made by what repaired networks lose"
_BLOCK_IMAGES = 192  # that single blocks are repaired on
_NO_BETTER_THAN_CONSTANT = 1.0  # relative squared error of what has the means of the channels for its output


@dataclass(frozen=True)
class Chosen:
    """The gate of a search.

    Attributes:
        gate: what candidates and networks have to pass.
        loss: what predicts the loss of repaired networks, where that is the gate.
        fitted_to: the images that it fits weights to; with labels, where they tell classes.
    """

    gate: Gate
    loss: PredictedLoss | None = None
    fitted_to: Batch | None = None


def check_logits_for(network: Network, settings: SearchSettings) -> None:
    """Refuses "repair", where it is needed, of a network whose predictions cannot be compared.

    Raises:
        ArgumentError: it gives no logits.
    """
    if (settings.legality == BY_REPAIR or settings.is_joint) and count_classes(network) is None:
        reason = f"legality '{BY_REPAIR}' compares predictions: expected logits (N, classes) from it"
        other = f"for what is no classifier there is legality '{BY_FISHER}', with a loss (--loss module:function)"
        raise ArgumentError("model", f"{reason}; {other}")


def choose_gate(
    network: Network, task: Task, data: str | Path | Batch | None, seed: int, settings: SearchSettings
) -> Chosen:
    """The gate that the settings ask for; without a word "repair" where that is possible, else "fisher".

    "repair" decides on the whole: an assembled network is repaired, its predictions on held-out images are compared
    with the original's (joint KL), and the calibration's upper end for what it loses must not exceed `max_loss`. A
    candidate alone is refused where no network with it is to be expected to pass, by its own blocks, each repaired
    alone:

    - a relative squared error above 1: a constant for each channel would do as well. It takes the block alone.
    - a KL, with the block replaced, above the greatest with which a network that saves no work would pass (see
      `greatest_kl`): others' changes add to it, and a network that saves more is predicted to lose no less.

    The KL of what passes ranks candidates. Fisher of the change refuses nothing: it is the KL to second order, good for
    small changes, but of large ones, which are to be refused, it tells too little by a factor of 10 to 100.

    A joint choice has "repair" always.

    Args:
        network: as imported.
        task: the minibatch, which tells whether the network is trained, and what Fisher Potential is measured on.
        data: where repair gets its images from.
        seed: chooses the images, and the initialisations of Fisher Potential.
        settings: see `SearchSettings`.

    Raises:
        ArgumentError, DataError: "repair" was asked for and the images or the calibration do not allow it.
    """
    if settings.legality == NOT_AT_ALL:
        return Chosen(Gate(NOT_AT_ALL, _ASKED))
    if settings.legality == BY_FISHER:
        return _by_fisher(task, seed, settings, _ASKED)
    if settings.legality == BY_REPAIR or settings.is_joint:
        images = _images(network, task, data, seed, settings)
        _warn_untrained(network, task)
        return _by_repair(network, images, settings, _JOINT if settings.legality is None else _ASKED)
    against = _reason_against(network, task, data, settings)
    if against:
        return _by_fisher(task, seed, settings, against)
    try:
        images = _images(network, task, data, seed, settings)
    except TooFewImages as error:
        return _by_fisher(task, seed, settings, str(error))
    return _by_repair(network, images, settings, "the network is trained, and there are images to repair it with")


def _reason_against(network: Network, task: Task, data: object, settings: SearchSettings) -> str:
    """Why a network is not judged by repair; empty where it can be."""
    reasons: dict[str, Callable[[], bool]] = {
        "no images are given to repair a network with": lambda: data is None,
        f"weights are inherited by '{settings.inherit}', not repaired": lambda: settings.inherit not in (None, REPAIR),
        "the network gives no logits that could be compared": lambda: count_classes(network) is None,
        "the network's weights are not trained": lambda: not is_trained(network.model, task),
    }
    return next((reason for reason, holds in reasons.items() if holds()), "")


def _by_fisher(task: Task, seed: int, settings: SearchSettings, reason: str) -> Chosen:
    return Chosen(Gate.of(FisherPotential(task, seed, settings.repeats), reason))


def _by_repair(network: Network, images: tuple[Batch, Batch], settings: SearchSettings, reason: str) -> Chosen:
    calibration = _calibration(network, settings)
    fitted_to, held_out = images
    loss = PredictedLoss((fitted_to.images,), held_out, calibration, max_loss=settings.max_loss)
    some = min(settings.batch_size, len(fitted_to.images) // 2)
    blocks = BlockImages(fitted_to.images[:some], fitted_to.images[some : some + _BLOCK_IMAGES])
    alone = (
        Criterion(BlockHarm(RESIDUAL, blocks), _NO_BETTER_THAN_CONSTANT),
        Criterion(BlockHarm(KL_BLOCK, blocks), greatest_kl(calibration, settings.max_loss)),
    )
    return Chosen(Gate(BY_REPAIR, reason, alone, Criterion(loss, settings.max_loss)), loss, fitted_to)


def _calibration(network: Network, settings: SearchSettings) -> Calibration:
    given = settings.calibration
    if given is None:
        return shipped_calibration(structure_fingerprint(network))
    return given if isinstance(given, Calibration) else load_calibration(given)


def _images(
    network: Network, task: Task, data: str | Path | Batch | None, seed: int, settings: SearchSettings
) -> tuple[Batch, Batch]:
    """Those that weights are fitted to, and those that the result is judged on; with labels where they tell classes."""
    count, held_out = settings.repair_images, settings.held_out
    if data is None:
        reason = f"legality '{BY_REPAIR}' fits weights to images and judges the result on others"
        raise ArgumentError("data", f"none was given (--data PATH): {reason}")
    if isinstance(data, Batch):
        fitted_to, judged_on = split_in_two(data, count, held_out)
    else:
        fitted_to, judged_on = load_in_two(data, count=count, held_out=held_out, shape=image_shape(network), seed=seed)
    if isinstance(task, Classification):
        return fitted_to, judged_on
    first, second = (Batch(each.images, None, 0, each.source) for each in (fitted_to, judged_on))
    return first, second


def _warn_untrained(network: Network, task: Task) -> None:
    if not is_trained(network.model, task):
        what = "the network's weights look untrained: it tells its images apart no better than guessing would"
        text = f"{what}, and repair to such a network says little of what training would give"
        warnings.warn(text, LoopmorphWarning, stacklevel=4)
