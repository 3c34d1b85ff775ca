"""Convolution programs of several layouts as text, and their result by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Conv:
    """A 3x3 convolution as affine nests: `@main(x, w, b, y)`, all f32, y to be written.

    Attributes:
        batch, outputs, inputs, height, width: extents of n, co, ci, oh, ow.
        start: what y starts from: "zero" or "bias" written by a nest, or "given": what is in y already.
        lanes: 0 for plain memrefs [n, c, h, w]; else channels are split into c.0 and c.1 of this many, axes too.
        offset: how far input and output lie inside of memrefs that are larger on all sides.
        groups: where more than 1, a loop g over them follows n; co and ci run over the channels of a group, and the
            channel axes hold those of all groups (the weight's input channels those of one).
        stride: by how much a kernel moves from one row, and column, to the next.
    """

    batch: int = 1
    outputs: int = 3
    inputs: int = 3
    height: int = 8
    width: int = 8
    start: str = "zero"
    lanes: int = 0
    offset: int = 0
    groups: int = 1
    stride: int = 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        o = 2 * self.offset
        data = tuple(self.stride * (extent - 1) + 3 + o for extent in (self.height, self.width))
        result = (self.height + o, self.width + o)
        if not self.lanes:
            x, y = (self.batch, self.inputs, *data), (self.batch, self.outputs, *result)
            return {"x": x, "w": (self.outputs, self.inputs // self.groups, 3, 3), "b": (self.outputs,), "y": y}
        co, ci, v = self.outputs // self.lanes, self.inputs // self.lanes, self.lanes
        return {
            "x": (self.batch, ci, *data, v),
            "w": (co, ci // self.groups, 3, 3, v, v),
            "b": (co, v),
            "y": (self.batch, co, *result, v),
        }

    @property
    def text(self) -> str:
        t = {n: f"memref<{''.join(f'{e}x' for e in s)}f32>" for n, s in self.shapes.items()}
        arguments = f'%x: {t["x"]}, %w: {t["w"]} {{morph.param = "w"}}, %b: {t["b"]} {{morph.param = "b"}}'
        o = self.offset
        digit = ".0" if self.lanes else ""
        i, k = f"%ci{digit}", f"%co{digit}"
        if self.groups > 1:
            inputs, outputs = self._sum_loops[f"ci{digit}"], self._result_loops[f"co{digit}"]
            i, k = f"%g * {inputs} + {i}", f"%g * {outputs} + {k}"
        if self.lanes:
            ci, co = (f"{i}, ", ", %ci.1"), (f"{k}, ", ", %co.1")
            weight, bias = f"{k}, %ci.0, %kh, %kw, %ci.1, %co.1", f"{k}, %co.1"
        else:
            ci, co = (f"{i}, ", ""), (f"{k}, ", "")
            weight, bias = f"{k}, %ci, %kh, %kw", k
        rows, columns = (f"%{p} * {self.stride} + %{k} + {o}" for p, k in (("oh", "kh"), ("ow", "kw")))
        x = f"%x[%n, {ci[0]}{rows}, {columns}{ci[1]}] : {t['x']}"
        y = f"%y[%n, {co[0]}%oh + {o}, %ow + {o}{co[1]}] : {t['y']}"
        start = {"bias": f"%v = affine.load %b[{bias}] : {t['b']}", "zero": "%v = arith.constant 0.0 : f32"}
        main = f"""%a = affine.load {x}
            %k = affine.load %w[{weight}] : {t["w"]}
            %c = affine.load {y}
            %p = arith.mulf %a, %k : f32
            %s = arith.addf %c, %p : f32
            affine.store %s, {y}"""
        nests = (
            [_nest(self._result_loops, f"{start[self.start]}\naffine.store %v, {y}", "init")]
            if self.start in start
            else []
        )
        nests.append(_nest(self._result_loops | self._sum_loops, main, "main"))
        return "\n".join([f"func.func @main({arguments}, %y: {t['y']}) {{", *nests, "return }"])

    @property
    def _result_loops(self) -> dict[str, int]:
        v = self.lanes
        outputs = self.outputs // self.groups
        channels = {"co.0": outputs // v, "co.1": v} if v else {"co": outputs}
        groups = {"g": self.groups} if self.groups > 1 else {}
        return {"n": self.batch, **groups, **channels, "oh": self.height, "ow": self.width}

    @property
    def _sum_loops(self) -> dict[str, int]:
        v = self.lanes
        inputs = self.inputs // self.groups
        channels = {"ci.0": inputs // v, "ci.1": v} if v else {"ci": inputs}
        return {**channels, "kh": 3, "kw": 3}

    def arrays(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(s).astype(np.float32) for s in self.shapes.values()]

    def expected(self, arrays: list[np.ndarray]) -> np.ndarray:
        """y after the call, by PyTorch in double precision."""
        x, w, b, y = (torch.from_numpy(a).double() for a in arrays)
        if self.lanes:
            x = x.permute(0, 1, 4, 2, 3).flatten(1, 2)
            w = w.permute(0, 5, 1, 4, 2, 3).flatten(0, 1).flatten(1, 2)
            y = y.permute(0, 1, 4, 2, 3).flatten(1, 2)
        o = self.offset
        inside = (slice(None), slice(None), slice(o, o + self.height), slice(o, o + self.width))
        read = x[:, :, o : x.shape[2] - o, o : x.shape[3] - o]
        sums = torch.nn.functional.conv2d(read, w, stride=self.stride, groups=self.groups)
        start = {"zero": 0, "bias": b.reshape(1, -1, 1, 1), "given": y[inside]}
        y = y.clone()
        y[inside] = sums + start[self.start]
        if self.lanes:
            y = y.unflatten(1, (-1, self.lanes)).permute(0, 1, 3, 4, 2)
        return y.numpy()


def _nest(loops: dict[str, int], body: str, role: str) -> str:
    names = list(loops)
    lines = [f"affine.for %{name} = 0 to {extent} {{" for name, extent in loops.items()]
    lines.append(body)
    lines += [f'}} {{morph.iter = "{name}"}}' for name in reversed(names[1:])]
    return "\n".join([*lines, f'}} {{morph.iter = "{names[0]}", morph.layer = "net", morph.role = "{role}"}}'])
