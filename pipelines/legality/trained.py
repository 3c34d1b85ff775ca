"""Whether a network has been trained: only then do its weights say what a rewritten one should compute."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.training.task import Classification, Task

_SIGMAS = 4.0  # what a lucky guess does not reach


def is_trained(model: nn.Module, task: Task, outputs: Any = None) -> bool:
    """Whether a classifier tells a minibatch's images apart better than guessing; for other tasks, whether a BatchNorm
    has seen a batch in train mode.

    Better than guessing is a share of right answers more than four standard errors above that of the most frequent
    label.

    Args:
        model: the network; left as it is.
        task: the minibatch.
        outputs: what the network gives for it in eval mode, where that is known already.
    """
    if not isinstance(task, Classification):
        norms = [module for module in model.modules() if isinstance(module, _NormBase)]
        return any(norm.num_batches_tracked is not None and int(norm.num_batches_tracked) > 0 for norm in norms)
    labels = task.targets
    if outputs is None:
        with torch.no_grad():
            outputs = switch_to_inference(copy.deepcopy(model))(*task.inputs)
    right = task.metric(outputs)
    guess = float(labels.bincount().max()) / len(labels)
    return right > guess + _SIGMAS * math.sqrt(max(guess * (1 - guess), 0.0) / len(labels))
