"""The sections beside the comparison of choices: engines, other processors, ImageNet, precision, pruning, search."""

from __future__ import annotations

from loopmorph.pipelines.bench.paper_figures import FIG8
from loopmorph.pipelines.bench.result import OURS
from loopmorph.pipelines.evaluation.markdown import NOTHING, listed, not_measured, number
from loopmorph.pipelines.evaluation.networks import in_order, network_table, remarks, setting_lines
from loopmorph.pipelines.evaluation.section import Part, Studies
from loopmorph.pipelines.evaluation.study import Section, Study
from loopmorph.pipelines.support.markdown import table

# What others say of themselves, from their papers and artifacts.
_SEARCHES = (
    ("BlockSwap (ICLR 2020)", "1,000 networks scored by Fisher Potential", "less than 5 minutes", "one Titan X Pascal"),
    (
        "LANA (ECCV 2022)",
        "an integer program over alternatives of each layer, all of which were trained before",
        "seconds to minutes, without that training",
        "not said",
    ),
    ("Syno (ASPLOS 2025)", "operators synthesised, trained and tuned", "at least one day a network", "8 A100"),
)

_IMAGENET = """## ImageNet, the paper's Fig. 8

ImageNet is not available here, so the accuracies of Fig. 8 cannot be measured again, and none is claimed. What stands
instead: networks of that kind at 224x224, chosen under a limit of joint KL on images that there are. The paper's own
figures, over untuned TVM, read off its picture (to 0.1 points and 3 %):
"""
_PRECISION = """## Against reduced precision

An original in int8 or bf16 is a rival of a smaller network in float32: both are faster and lose some accuracy. Here
stands the original by OpenVINO in float32, in bf16 and in int8 (NNCF, post-training), in turns with our float32.
What int8 gains depends on the processor: on a Zen 4, which has VNNI, it ran resnet34 3.7 times as fast as OpenVINO's
own float32 (told, not stored here). What a processor has stands by its figures.
"""
_REWRITTEN = """## Rewritten networks, timed elsewhere

The choices of the tables above, made for the processor that is named there, on another one: in turns with the original
by our code and, beside them, other engines on the unmodified network. Nothing was chosen for this processor.
"""
_PRUNING = """## Against pruning

Torch-Pruning on ResNet-34 at equal latency, trained on the same recipe, timed by our compiler and by ONNX Runtime.
"""


def engines_section(studies: Studies) -> Part:
    """Our unmodified code against what a user would pick instead."""
    lines = ["## Unmodified networks, against other engines", ""]
    lines += ["The README has such a table of another processor (Zen 5); times of two processors do not compare.", ""]
    found = studies.of("engines")
    if not found:
        commands = ["loopmorph bench resnet34 --threads 1,2 --json bench.json"]
        commands += ["loopmorph evaluation add docs/evaluation/engines-resnet34.json --bench bench.json"]
        lines += not_measured("no run on the processor of the times above is stored", commands)
    for name, study in found.items():
        lines += [f"### {study.provenance.model}", "", *setting_lines(study, name), *_engines(study), ""]
    return Part(lines)


def _engines(study: Study) -> list[str]:
    rows = []
    for result in (study.result or {}).get("results", []):
        times = {row["name"]: row["median_ms"] for row in result["rows"]}
        ours = times.get(OURS)
        for name, ms in sorted(times.items(), key=lambda each: each[1]):
            ratio = NOTHING if ours is None else f"{ms / ours:.2f}"
            rows.append([f"{result['threads']}", name, number(ms, 2), ratio])
    return table(["threads", "engine", "ms", "its time over ours"], rows)


def rewritten_section(studies: Studies) -> Part:
    """The choices on another processor than the one that they were made for."""
    commands = [
        "loopmorph bench resnet34 --rewritten docs/evaluation/pipelines/resnet34.json --json times.json",
        "loopmorph evaluation add docs/evaluation/rewritten-resnet34.json --rewritten times.json",
    ]
    found = studies.of("rewritten")
    part = _networks("rewritten", [*_REWRITTEN.splitlines(), ""], studies, "no such times are stored", commands)
    lines = [line for study in found.values() for line in _beside_engines(study)]
    return Part([*part.lines, *lines, ""] if lines else part.lines)


def _beside_engines(study: Study) -> list[str]:
    """How much faster each rewrite is than the fastest other engine on the unmodified network."""
    engines = [each for each in study.networks if each.chosen_by == "original" and each.speedup is not None]
    if not engines:
        return []
    best = max(engines, key=lambda each: each.speedup or 0.0)
    told = [
        f"{each.name} {(each.speedup or 0.0) / (best.speedup or 1.0):.2f}"
        for each in in_order(study)
        if each.chosen_by != "original" and each.speedup is not None
    ]
    model = study.provenance.model
    return [f"- {model}: times as fast as {best.compiler} on the unmodified network: {listed(told)}."] if told else []


def imagenet_section(studies: Studies) -> Part:
    """Beside the paper's Fig. 8, which needs data that are not there."""
    rows = [
        [name, f"{original:g}", f"{before:g}", f"{own:g}", f"{after:g}", f"{before / after:.1f}"]
        for name, (original, before, own, after) in FIG8.items()
    ]
    lines = [*_IMAGENET.splitlines(), ""]
    lines += [*table(["network", "original, %", "ms", "its own, %", "ms", "speed-up"], rows), ""]
    commands = [
        "loopmorph optimize package:resnet18 --data IMAGES --seconds 3600 --out out  # 224x224, trained weights",
        "loopmorph evaluation add docs/evaluation/resnet18.json --section imagenet --report out/report.json",
    ]
    return _networks("imagenet", lines, studies, "no choice at 224x224 is stored", commands)


def precision_section(studies: Studies) -> Part:
    """Against int8 and bf16 of other engines."""
    missing = "neither speed nor accuracy in int8 or bf16 is stored"
    commands = [
        "loopmorph bench resnet34 --weights WEIGHTS --precision f32,bf16,int8 --data DATA --json precision.json",
        "loopmorph evaluation add docs/evaluation/precision-resnet34.json --precision precision.json",
    ]
    return _networks("precision", [*_PRECISION.splitlines(), ""], studies, missing, commands)


def pruning_section(studies: Studies) -> Part:
    """Against Torch-Pruning at equal latency."""
    commands = [
        "loopmorph baseline pruning resnet34 --weights WEIGHTS --speedup 2 --speedup 4 --json pruned.json --out pruned",
        "loopmorph finetune pruned/uniform-2x.pt --data DATA --teacher WEIGHTS.pt --json tuned.json -o tuned.pt",
    ]
    return _networks("pruning", [*_PRUNING.splitlines(), ""], studies, "no pruned network was trained", commands)


def _networks(section: Section, lines: list[str], studies: Studies, missing: str, commands: list[str]) -> Part:
    found = studies.of(section)
    if not found:
        return Part([*lines, *not_measured(missing, commands)])
    for name, study in found.items():
        lines += [f"### {study.provenance.model}", "", *setting_lines(study, name)]
        lines += [*network_table(study), "", *remarks(study), ""]
    return Part(lines)


def search_section(studies: Studies) -> Part:
    """What a search takes, here and elsewhere."""
    lines = ["## What a search costs", ""]
    lines += ["What others say of theirs, as published, on other networks and machines; the paper's abstract says that"]
    lines += ["it 'dramatically reduces' the time of a search, and no figure of it was found:", ""]
    lines += [*table(["system", "what", "time", "machine"], [list(row) for row in _SEARCHES]), ""]
    found = studies.of("search")
    if not found:
        commands = ["loopmorph optimize package:resnet34 --data DATA --target-speedup 4 --out out"]
        commands += ["loopmorph evaluation add docs/evaluation/search.json --section search --report out/report.json"]
        return Part(lines + not_measured("no search was run alone on its machine from beginning to end", commands))
    for name, study in found.items():
        rows = [[each.what, f"{each.seconds:,.0f}", f"{each.candidates:,}", f"{each.cores}"] for each in study.searches]
        lines += [f"### {study.provenance.model}", "", *setting_lines(study, name)]
        lines += [*table(["what", "seconds", "candidates", "cores"], rows), ""]
    return Part(lines)
