"""LLVM IR as older compilers read it; the right-hand sides are what clang 19 prints of them."""

from __future__ import annotations

import pytest

from loopmorph.pipelines.codegen.export.llvm_text import portable_text


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("store float -inf, ptr %0", "store float 0xFFF0000000000000, ptr %0"),
        ("store float +qnan, ptr %0", "store float 0x7FF8000000000000, ptr %0"),
        ("store float +snan(0x200001), ptr %0", "store float 0x7FF8000000000000, ptr %0"),
        ("%1 = fadd reassoc contract float %0, f0x3727C5AC", "%1 = fadd reassoc contract float %0, 0x3EE4F8B580000000"),
        ("%1 = fmul float %0, 1.000000e-01", "%1 = fmul float %0, 0x3FB99999A0000000"),
        ("store double 1.000000e-01, ptr %0", "store double 0x3FB999999999999A, ptr %0"),
        ("store half 9.997550e-02, ptr %0", "store half 0xH2E66, ptr %0"),
        ("store bfloat 1.000980e-01, ptr %0", "store bfloat 0xR3DCD, ptr %0"),
        ("store <4 x bfloat> splat (bfloat -inf), ptr %0", "store <4 x bfloat> splat (bfloat 0xRFF80), ptr %0"),
        (
            '@x = constant [23 x i8] c"float 1.0e+00 \\22 +inf\\00"',
            '@x = constant [23 x i8] c"float 1.0e+00 \\22 +inf\\00"',
        ),
        (
            "declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, ptr readonly captures(none)) #1\n"
            "define void @run(ptr noalias %0) #0 {\nattributes #0 = { noinline }\nattributes #1 = { nounwind }\n",
            "declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, ptr)\n"
            "define void @run(ptr noalias %0) #0 {\nattributes #0 = { noinline }\n",
        ),
    ],
)
def test_what_older_versions_read(new: str, old: str) -> None:
    assert portable_text(new) == old
