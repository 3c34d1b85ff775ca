"""The settings of a training, the same for every network that is compared."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.numbers import check_count, check_seed

SGD, ADAMW = "sgd", "adamw"
OPTIMISERS = (SGD, ADAMW)


@dataclass(frozen=True)
class FineTuning:
    """How to fine-tune: gradient steps, with one cycle of the learning rate.

    Attributes:
        epochs: passes over the training part.
        batch_size: images of a step; all of them where there are fewer. What is left over of an epoch is left out.
        learning_rate: at the top of the cycle (Smith and Topin 2019), which rises for `warm_up` of all steps and falls
            to nothing, along a cosine.
        warm_up: share of the steps in which it rises.
        optimiser: SGD with Nesterov momentum, "sgd", or AdamW, "adamw" (Loshchilov and Hutter 2019), which transformers
            want: with a learning rate near 1e-3 and a weight decay near 0.05.
        momentum: of the gradients, with SGD.
        weight_decay: of parameters with two axes and more; vectors (biases, BatchNorm) have none.
        label_smoothing: share of the target that is spread over all classes.
        padding: pixels by which images are shifted at most, both ways, what comes in being the mirrored border.
        flip: whether half of the images are mirrored left to right.
        erased: side in pixels of a square of each image that is made grey (DeVries and Taylor 2017); its centre lies
            anywhere within the image. 0 erases nothing.
        mixed: share of the images of which a rectangle is replaced by that of another one, with a share of its label
            (CutMix, Yun et al. 2019).
        gradient_norm: where the norm of all gradients together is greater, they are scaled down to it (Pascanu,
            Mikolov and Bengio 2013, algorithm 1); None leaves them as they are.
        seed: of order, shifts, flips, and what the network itself draws (dropout).
    """

    epochs: int = 8
    batch_size: int = 512
    learning_rate: float = 0.1
    warm_up: float = 0.2
    optimiser: str = SGD
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    padding: int = 4
    flip: bool = True
    erased: int = 0
    mixed: float = 0.0
    gradient_norm: float | None = 5.0
    seed: int = 0

    def check(self) -> None:
        """Raises:
        ArgumentError: a value that is out of range; names it.
        """
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_seed(self.seed)
        if self.optimiser not in OPTIMISERS:
            raise ArgumentError("optimiser", f"expected one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}")
        for name in ("padding", "erased"):
            pixels = getattr(self, name)
            if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
                raise ArgumentError(name, f"expected pixels, at least 0, got {pixels!r}")
        if self.gradient_norm is not None and not 0 < self.gradient_norm < math.inf:
            raise ArgumentError("gradient_norm", f"expected a positive number, got {self.gradient_norm!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError("learning_rate", f"expected a positive number, got {self.learning_rate!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError("weight_decay", f"expected a number of at least 0, got {self.weight_decay!r}")
        if not 0 < self.momentum < 1:
            raise ArgumentError("momentum", f"expected a number between 0 and 1, got {self.momentum!r}")
        if not 0 <= self.mixed <= 1:
            raise ArgumentError("mixed", f"expected a share from 0 to 1, got {self.mixed!r}")
        for name in ("warm_up", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(name, f"expected a share from 0 to below 1, got {getattr(self, name)!r}")

    def describe(self) -> str:
        """The settings as one line that differs where they do."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())
