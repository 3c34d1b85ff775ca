from __future__ import annotations

import pytest
from epilogue_programs import ARGUMENTS, CH, INIT, MAIN, RELU_Y, T, elementwise, function, nest, refused
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue

pytestmark = pytest.mark.usefixtures("context")


def test_accumulators_in_memory():
    main = nest(
        {"co": 8, "oh": 4, "k": 3},
        """%a = affine.load %t[%co, %oh] : memref<8x4xf32>
        %b = affine.load %w[%co, %k] : memref<8x3xf32>
        %s = arith.addf %a, %b : f32
        affine.store %s, %t[%co, %oh] : memref<8x4xf32>""",
        "conv",
    )
    text = function(ARGUMENTS, T, INIT, main, RELU_Y)
    refused(text, "layer 'conv': its accumulators are not in registers; apply morph-promote first")


def reader_refused(reader: str, match: str, main: str = MAIN, **arguments: str) -> None:
    refused(function({**ARGUMENTS, **arguments}, T, main, reader), match)


def test_readers_that_do_not_fit():
    again = RELU_Y.replace("%y[", "%z[")
    reader_refused(RELU_Y + "\n" + again, "its result is read by 2 nests", z="8x4")
    reader_refused("", "no nest of the program writes it; nothing reads its result")
    reader_refused(RELU_Y.replace("%y[", "%t["), "its reader 'relu' works in place")
    part = RELU_Y.replace("%c = 0 to 8", "%c = 0 to 7")
    reader_refused(part, "its reader 'relu' does not read exactly the elements that it stores, one per point")
    reader_refused(RELU_Y.replace("%t[%c, %h]", "%t[%c, 0]"), "does not read exactly the elements")
    reader_refused(RELU_Y.replace("0 to 8", "1 to 8"), "'relu' is not element-wise: its loops are not perfectly nested")
    unusual = '%r = "arith.index_cast"(%h) : (index) -> i32'
    typed = elementwise(CH, {"v": "%t[%c, %h] : memref<8x4xf32>"}, "%y[%c, %h] : memref<8x4xf32>", unusual)
    typed = typed.replace("affine.store %r", "affine.store %v")
    reader_refused(typed, "'relu' is not element-wise: it contains 'arith.index_cast'")
    twice = RELU_Y.replace("affine.store %r", "affine.store %v, %y[%c, 0] : memref<8x4xf32>\naffine.store %r")
    reader_refused(twice, "'relu' is not element-wise: it has 2 stores per point")
    late = nest({"c": 8}, "affine.store %zero, %t[%c, 0] : memref<8x4xf32>", "late")
    reader_refused(RELU_Y + "\n" + late, "its result is written by 'late' too")


def test_reader_that_overwrites_an_operand_of_the_nest():
    main = MAIN.replace("%x[%k, %oh * 2", "%y[%k, %oh * 2").replace("memref<3x4xf32>", "memref<8x4xf32>")
    reader_refused(RELU_Y, "it reads what its reader 'relu' writes", main)


def test_memrefs_that_may_be_shared():
    view = "%t = memref.subview %y[0, 0] [8, 4] [1, 1] : memref<8x4xf32> to memref<8x4xf32, strided<[4, 1]>>"
    main = MAIN.replace("8x4xf32>", "8x4xf32, strided<[4, 1]>>")
    relu = RELU_Y.replace("%y[", "%z[").replace(
        "%t[%c, %h] : memref<8x4xf32>", "%t[%c, %h] : memref<8x4xf32, strided<[4, 1]>>"
    )
    refused(function({**ARGUMENTS, "z": "8x4"}, view, main, relu), "it comes from 'memref.subview' and may be shared")
    peek = "%peek = memref.cast %y : memref<8x4xf32> to memref<?x4xf32>"
    refused(function(ARGUMENTS, peek, T, MAIN, RELU_Y), "it is used by 'memref.cast', whose effects are not understood")


def test_unusual_nests():
    other = "affine.store %red#1, %t[%co, %oh * 2 + 1] : memref<8x4xf32>"
    twice = MAIN.replace(other, other.replace("%t[", "%z["))
    reader_refused(RELU_Y, "it stores to 2 memrefs, not to one", twice, z="8x4")
    same = MAIN.replace("affine.store %red#1, %t[%co, %oh * 2 + 1]", "affine.store %red#1, %t[%co, %oh * 2]")
    reader_refused(RELU_Y, "it may store an element several times|it reads results of other iterations", same)
    ahead = MAIN.replace("%s1 = affine.load %t[%co, %oh * 2 + 1]", "%s1 = affine.load %t[%co, %oh * 2 + 2]")
    reader_refused(RELU_Y, "it reads results of other iterations", ahead)


def test_unknown_layer():
    module = ir.Module.parse(function(ARGUMENTS, T, MAIN, RELU_Y))
    with pytest.raises(ArgumentError, match="no layer 'conf' in the program; nearest: conv"):
        FuseEpilogue("conf").apply(module.operation)
