"""Fitting one layer: the parameters of its nests with which it gives, on what it reads now, what the original gave.

`W = argmin |W u(x) - y|^2 + ridge |W - W_0|^2`, with x what the rewritten network hands to the layer, u(x) the elements
that the nests multiply with the parameter, read off their access maps, y the original layer's output on the same images
and W_0 the inherited values. Blocks (groups, bands, slices) are solved one by one, a bias is an intercept.

Where nests stand between the parameter and the output: if they copy (a coarse grid read back), the fit is to the mean
of the elements that one element stands for; if they contract again (a mix), the first one is fitted to the channels
that it was made from, and the next one to the output; but if the two are a product of low rank, or a separable one, the
best such product is taken (see `low_rank` and `separable`), and the next one fitted once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.oracle.linear_terms import linear_terms, name_of
from loopmorph.pipelines.oracle.repair.low_rank import PRODUCT, Product, factors, laid_into, product_of
from loopmorph.pipelines.oracle.repair.separable import separable_factors
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings, FittedTerm, LayerSamples, Selections, TermFit

_RANK = 1e-6  # singular values of a mix, relative to its largest, below which they count as 0


def fit_layer(
    recipe: Recipe,
    values: Mapping[str, torch.Tensor],
    samples: LayerSamples,
    selections: Selections,
    centred: bool,
    settings: FitSettings,
    origins: Callable[[], Sequence[torch.Tensor]],
) -> list[FittedTerm]:
    """Fits every parameter that a layer is linear in, in program order, each with the ones before as fitted.

    Args:
        recipe: the layer's nests.
        values: name -> present values of the parameters, float32.
        samples: what it reads and what it should give; the target's elements, but for `selections`, are the output's.
        selections: name of a parameter -> (axis, indices): along that axis of what it is summed into, element k stands
            for element `indices[k]` of the target.
        centred: whether a constant may be left over for each output, since what follows takes it away (BatchNorm).
        settings: how.
        origins: gives dense weights, (unknowns, outputs) each, that a product of two terms may be made from; called
            for such a product alone.
    """
    present, fitted = dict(values), list[FittedTerm]()
    biases = {name_of(recipe, term) for term in linear_terms(recipe) if term.is_bias}
    for term in linear_terms(recipe):
        name = name_of(recipe, term)
        product = product_of(recipe, term)
        found = list[FittedTerm]()
        if product is not None:
            found = _fit_product(product, present, samples, selections, (centred, bool(biases)), settings, origins)
            biases -= {each.parameter for each in found}
        if not found and (name in biases or not term.is_bias):
            fit = TermFit(recipe, term, selections.get(name, ()), settings)
            alone = fit.run(present, samples, centred or (bool(biases) and not term.is_bias))
            found = [] if alone is None else [alone]
        fitted += found
        present |= {each.parameter: each.value for each in found}
    return fitted


def _fit_product(
    product: Product,
    values: Mapping[str, torch.Tensor],
    samples: LayerSamples,
    selections: Selections,
    constants: tuple[bool, bool],
    settings: FitSettings,
    origins: Callable[[], Sequence[torch.Tensor]],
) -> list[FittedTerm]:
    """The parameters of a product, with the bias between if there is one; the second weight may be fitted once more.

    `constants`: whether a constant may be left over, as of `fit_layer`, and whether a bias can make up for one.
    """
    name = name_of(product.whole, product.second)
    fit = TermFit(product.recipe, product.term, selections.get(name, ()), settings)
    like = next(iter(values.values()))
    given = {**values, PRODUCT: torch.zeros(product.shape).to(like)}
    found = fit.dense(given, samples, any(constants), origins())
    if found is None:
        return []
    own_bias = product.bias is not None and not constants[0]
    weight = found.solution.weight[0]
    if product.is_separable:
        first, second = separable_factors(weight, found.moments(), product.rank)
    else:
        mean = found.equations.mean_target()[0]
        far = found.equations.rows * torch.outer(mean, mean) if own_bias else 0.0
        first, second = factors(weight, found.covariance() + far, product.rank)
    parts = [(product.first, first), (product.second, second)]
    if own_bias and product.bias is not None:
        parts.append((product.bias, found.solution.intercept @ torch.linalg.pinv(second, rtol=_RANK)))
    return [
        FittedTerm(
            name_of(product.whole, term),
            laid_into(product.whole, term, part).to(like),
            found.solution,
            found.equations.rows,
            found.equations.dropped,
        )
        for term, part in parts
    ]
