"""Where the parts of a transformer block live, per architecture: the one table of module paths."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from iit_toolkit.errors import UserError

COMPONENTS = (
    "block_input",
    "block_output",
    "attention_output",
    "attention_value_output",
    "mlp_output",
    "mlp_activation",
)


@dataclass(frozen=True)
class Architecture:
    """Module paths of one architecture.

    Attributes:
        blocks: Path of the list of blocks below the base model.
        attention: Path, below a block, of the linear layer that ends attention. What enters it are the heads'
            outputs side by side (`attention_value_output`), what leaves it is `attention_output`.
        mlp: Path, below a block, of the linear layer that ends the MLP. What enters it is the hidden activation
            (`mlp_activation`), what leaves it is `mlp_output`.
    """

    blocks: str
    attention: str
    mlp: str


_BERT = Architecture("encoder.layer", "attention.output.dense", "output.dense")
_LLAMA = Architecture("layers", "self_attn.o_proj", "mlp.down_proj")

ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "distilbert": Architecture("transformer.layer", "attention.out_lin", "ffn.lin2"),
    "modernbert": Architecture("layers", "attn.Wo", "mlp.Wo"),
    "gpt2": Architecture("h", "attn.c_proj", "mlp.c_proj"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "vit": Architecture("layers", "attention.o_proj", "mlp.fc2"),
}


def blocks_path(model: object) -> str:
    """Return the path, from the model itself, of its list of transformer blocks.

    Architectures outside the table are searched for a list of blocks, as long as the configuration says it is deep: the
    first of blocks that gradient checkpointing knows, or else the only one, if its modules are of one class.

    Raises:
        UserError: If no such list is found.
    """
    if not isinstance(model, PreTrainedModel):
        raise UserError(
            f"{type(model).__name__} is no model of transformers, so it has no blocks; declare its sites by module "
            "path (`component: path.to.module.output`)"
        )
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    known = ARCHITECTURES.get(model.config.model_type)
    if known is not None:
        return prefix + known.blocks
    depth = getattr(model.config, "num_hidden_layers", None)
    lists = [
        (name, module)
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    for name, found in lists:
        if all(isinstance(block, GradientCheckpointingLayer) for block in found):
            return prefix + name
    outer = [(name, found) for name, found in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    if len(outer) == 1 and len({type(block) for block in outer[0][1]}) == 1:
        return prefix + outer[0][0]
    raise UserError(
        f"{type(model).__name__}: no list of {depth or 'its'} blocks found; declare its sites by module path "
        f"(`component: path.to.module.output`)"
    )


def blocks(model: object) -> nn.ModuleList:
    """Return the model's transformer blocks, lowest first.

    Raises:
        UserError: If the model's blocks are not found.
    """
    path = blocks_path(model)
    assert isinstance(model, PreTrainedModel)
    try:
        found = model.get_submodule(path)
    except AttributeError:
        found = None
    if not isinstance(found, nn.ModuleList):
        raise UserError(
            f"{type(model).__name__}: has no list of blocks at {path}, where a model of type "
            f"`{model.config.model_type}` has it; correct model_type in its config.json"
        )
    return found


def component_path(model: nn.Module, layer: int, component: str) -> str:
    """Translate `{layer, component}` to pyvene's module-path form, e.g. `bert.encoder.layer[3].output`.

    Raises:
        UserError: If the layer is out of range, or the component is unknown for this architecture.
    """
    depth = len(blocks(model))
    if not 0 <= layer < depth:
        raise UserError(
            f"layer {layer} of {component}: {type(model).__name__} has layers 0 to {depth - 1}; choose one of these"
        )
    block = f"{blocks_path(model)}[{layer}]"
    if component in ("block_input", "block_output"):
        return f"{block}.{component.removeprefix('block_')}"
    assert isinstance(model, PreTrainedModel)
    known = ARCHITECTURES.get(model.config.model_type)
    if known is None:
        raise UserError(
            f"component {component}: not known for model type `{model.config.model_type}`; name the module itself, "
            f"e.g. `{block}.path.to.module.output`"
        )
    module = known.attention if component.startswith("attention") else known.mlp
    kind = "output" if component in ("attention_output", "mlp_output") else "input"
    return f"{block}.{module}.{kind}"
