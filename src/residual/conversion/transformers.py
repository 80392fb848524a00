"""ResNets of Hugging Face `transformers`: a folder with config.json, the weights, and how pictures are prepared.

The surprising thing: its config says where the stride is (`downsample_in_bottleneck`), which torchvision's files leave open.
"""

import json
import re
from pathlib import Path
from typing import Any

from residual.architecture import Architecture
from residual.conversion.expressible import check_fields, training_notes
from residual.conversion.files import StateDict, outline, write_tensors
from residual.conversion.found import Found
from residual.conversion.inferred import assembled
from residual.conversion.pictures import from_processor, processor_config
from residual.weights import SavedModel, write_whole

NAME = "transformers"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LAYER = re.compile(
    r"resnet\.encoder\.stages\.(\d{1,4})\.layers\.(\d{1,5})\.(layer\.(\d)|shortcut)\.(convolution|normalization)\.(\w+)", re.ASCII
)
_STEM = re.compile(r"resnet\.embedder\.embedder\.(convolution|normalization)\.(\w+)")
_MAX_JSON = 32 * 2**20


def recognise(path: Path) -> bool:
    try:
        return path.is_dir() and _json(path / CONFIG).get("model_type") == "resnet"
    except ValueError:
        return False


def read(path: Path) -> Found:
    config = _json(path / CONFIG)
    if config.get("model_type") != "resnet":
        raise ValueError(f"{path / CONFIG} describes a {config.get('model_type')!r} and not a resnet.")
    if config.get("hidden_act", "relu") != "relu":
        raise ValueError(f"{path / CONFIG} has hidden_act={config['hidden_act']!r}: only relu is known.")
    state = _weights(path)
    ours = {_from_theirs(name): name for name in state.shapes}
    changes = {"stride_on": "conv1" if config.get("downsample_in_bottleneck") else "conv2"}
    found = assembled(NAME, state, ours, changes | _strides(path, config))
    _agree(path, config, found.architecture)
    classes = _classes(path, config, found.architecture.num_classes)
    processor = _json(path / PROCESSOR) if (path / PROCESSOR).is_file() else {}
    preprocessing, notes = from_processor(path / PROCESSOR, processor, found.architecture.in_channels)
    return Found(
        format=NAME, architecture=found.architecture, weights=found.weights, pairs=found.pairs, classes=classes,
        preprocessing=preprocessing, notes=(*found.notes, *notes),
    )  # fmt: skip


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    """Notes on what was written: a folder that ResNetForImageClassification.from_pretrained loads with no key missing or left over.

    ValueError names the field that its ResNet cannot have.
    """
    arch = saved.architecture
    inner = tuple(width // 4 for width in arch.out_widths) if arch.block == "bottleneck" else arch.out_widths
    rest = (2,) * (len(arch.depths) - 1)
    wanted: dict[str, tuple[Any, ...]] = {
        "order": ("original",), "shortcut": ("projection",), "stem": ("imagenet",), "pool_padding": ("lowest",), "input_norm": (False,),
        "stride_block": ("first",), "shortcut_pool": (False,), "shortcut_norm": (True,), "conv_bias": (False,), "groups": (1,),
        "bn_epsilon": (1e-5,), "se_reduction": (0,), "inner_widths": (inner,), "strides": ((1, *rest), (2, *rest)),
    }  # fmt: skip
    check_fields(NAME, arch, wanted)
    processor = processor_config(saved.preprocessing) if saved.preprocessing else None
    path.mkdir(exist_ok=True)
    write_tensors(path / WEIGHTS[0], {_to_theirs(name): value for name, value in saved.weights.items()})
    if processor:
        write_whole(path / PROCESSOR, json.dumps(processor, indent=1).encode())
    write_whole(path / CONFIG, json.dumps(_config(saved), indent=1).encode())
    note = "It loads into transformers.ResNetForImageClassification.from_pretrained with no key missing or left over."
    return (note, *training_notes(NAME, saved))


def _config(saved: SavedModel) -> dict[str, Any]:
    arch = saved.architecture
    names = saved.classes or tuple(f"LABEL_{number}" for number in range(arch.num_classes))
    return {
        "architectures": ["ResNetForImageClassification"], "model_type": "resnet", "layer_type": arch.block, "depths": list(arch.depths),
        "hidden_sizes": list(arch.out_widths), "embedding_size": arch.stem_width, "num_channels": arch.in_channels, "hidden_act": "relu",
        "downsample_in_first_stage": arch.strides[0] == 2,
        "downsample_in_bottleneck": arch.block == "bottleneck" and arch.stride_on == "conv1",
        "id2label": {str(number): name for number, name in enumerate(names)}, "label2id": {name: k for k, name in enumerate(names)},
        "problem_type": "single_label_classification", "torch_dtype": "float32",
    }  # fmt: skip


def _strides(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    depths = config.get("depths", [3, 4, 6, 3])
    if not isinstance(depths, list) or not 1 <= len(depths) <= 100:
        raise ValueError(f"{path / CONFIG} has depths={depths!r:.60}, which must be a list of whole numbers.")
    return {"strides": (2 if config.get("downsample_in_first_stage") else 1, *(2,) * (len(depths) - 1))}


def _agree(path: Path, config: dict[str, Any], arch: Architecture) -> None:
    """The config must say what the tensors show."""
    shown = {
        "depths": list(arch.depths),
        "hidden_sizes": list(arch.out_widths),
        "layer_type": arch.block,
        "embedding_size": arch.stem_width,
    }
    for name, value in shown.items():
        if config.get(name, value) != value:
            raise ValueError(f"{path / CONFIG} has {name}={config[name]!r:.80}, but the tensors show {value!r}.")


def _classes(path: Path, config: dict[str, Any], count: int) -> tuple[str, ...]:
    """Class names; none where they are the library's placeholders."""
    labels = config.get("id2label") or {}
    try:
        names = tuple(str(labels[str(number)]) for number in range(count)) if labels else ()
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / CONFIG} has an id2label that does not name the {count} classes.") from error
    if labels and len(labels) != count:
        raise ValueError(f"{path / CONFIG} names {len(labels)} classes in id2label for a classifier of {count}.")
    return () if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else names


def _weights(path: Path) -> StateDict:
    for name in WEIGHTS:
        if (path / name).is_file():
            return outline(path / name)
        if (path / f"{name}.index.json").is_file():
            raise ValueError(f"{path} holds its weights in several files ({name}.index.json): save it in one (max_shard_size) to read it.")
    raise ValueError(f"{path} has a {CONFIG}, but neither {' nor '.join(WEIGHTS)}.")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"{path} is too large for what it should be.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {str(error).rstrip('.')}.") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds no JSON object.")
    return told


def _from_theirs(name: str) -> str:
    if match := _STEM.fullmatch(name):
        return f"{'conv1' if match[1] == 'convolution' else 'bn1'}.{match[2]}"
    if match := _LAYER.fullmatch(name):
        block, conv = f"layer{int(match[1]) + 1}.{match[2]}", match[5] == "convolution"
        if match[3] == "shortcut":
            return f"{block}.downsample.{0 if conv else 1}.{match[6]}"
        return f"{block}.{'conv' if conv else 'bn'}{int(match[4]) + 1}.{match[6]}"
    return name.replace("classifier.1.", "fc.")


def _to_theirs(name: str) -> str:
    first, _, rest = name.partition(".")
    if first in ("conv1", "bn1"):
        return f"resnet.embedder.embedder.{'convolution' if first == 'conv1' else 'normalization'}.{rest}"
    if first == "fc":
        return f"classifier.1.{rest}"
    number, layer, last = rest.split(".", 2)
    block = f"resnet.encoder.stages.{int(first.removeprefix('layer')) - 1}.layers.{number}"
    if layer == "downsample":
        index, _, last = last.partition(".")
        return f"{block}.shortcut.{'convolution' if index == '0' else 'normalization'}.{last}"
    return f"{block}.layer.{int(layer[-1]) - 1}.{'convolution' if layer.startswith('conv') else 'normalization'}.{last}"
