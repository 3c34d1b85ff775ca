"""`python without_mlir.py FOLDER`: loads FOLDER/model.pt, trains it and saves it, where MLIR is not installed."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

ABSENT = {"torch_mlir", "islpy", "archspec", "cloudpickle", "jinja2", "optuna", "platformdirs", "scipy"}


class _Absent(MetaPathFinder):
    """Packages that are not installed."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def main(folder: Path) -> None:
    import torch

    import loopmorph as lm
    from loopmorph.tools import cli, opt_main

    module = lm.load_model(folder / "model.pt", original="saved_networks:original")
    told = {"before": module(torch.load(folder / "images.pt"))}
    module.train()
    losses = []
    for _ in range(2):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module(torch.load(folder / "images.pt")).float().square().sum()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients = [parameter.grad for parameter in module.parameters()]
        told["gradients"] = torch.stack([gradient.norm() for gradient in gradients])
        with torch.no_grad():  # torch.optim takes seconds to import
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    assert losses[1] < losses[0]
    lm.save_model(folder / "tuned.pt", module)
    told["after"] = module.eval()(torch.load(folder / "images.pt"))
    torch.save({name: tensor.detach() for name, tensor in told.items()}, folder / "told.pt")
    try:
        print(lm.compile)
    except lm.MissingPackage as error:
        print(error)
    print(cli.main(["import", "resnet18"]), opt_main.main(), file=sys.stderr)


if __name__ == "__main__":
    sys.meta_path.insert(0, _Absent())
    main(Path(sys.argv[1]))
