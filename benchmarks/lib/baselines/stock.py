"""A training step with diffusers and transformers as they come: what people run today.

Only what is learned has gradients and moments. That is lean: diffusers' own textual inversion script keeps them for
the whole embedding table.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.lib.models import hide

LORA = {"r": 2, "lora_alpha": 2, "target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
QUANTIZERS = {"quanto": "optimum.quanto", "torchao": "torchao.quantization"}
ADAM_AND_GRADIENT = 3 * 4  # bytes a weight: a gradient and two moments, float32
HOW = (
    "measured: full fine-tuning whose every gradient is dropped as soon as it is there (weights, activations); "
    "added: 12 bytes for each of the denoiser's {weights} weights (gradient, two moments)"
)


@dataclass
class Training:
    """A training step.

    Attributes:
        step: does one.
        learned: the tensors that it changes.
        computed: "mb" to be added to the step's memory by computation, and "how".
    """

    step: Callable[[], object]
    learned: list[Any]
    computed: dict[str, Any] = field(default_factory=dict)


def denoiser(folder: str, dtype: str = "float32", quantizer: str = "") -> Any:
    """The denoiser, frozen."""
    import torch
    from diffusers.models import UNet2DConditionModel

    kind = getattr(torch, dtype)
    unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", torch_dtype=kind, use_safetensors=True)
    return _frozen(unet, quantizer)


def text_encoder(folder: str, dtype: str = "float32", quantizer: str = "", second: bool = False) -> Any:
    """The text encoder, or SDXL's second one, frozen."""
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    kind, path = getattr(torch, dtype), f"{folder}/text_encoder{'_2' * second}"
    made = CLIPTextModelWithProjection if second else CLIPTextModel
    return _frozen(made.from_pretrained(path, dtype=kind, use_safetensors=True), quantizer)


def _frozen(module: Any, quantizer: str) -> Any:
    module.requires_grad_(False).eval()
    if quantizer:
        quantize(module, quantizer)
    return module


def quantize(module: Any, quantizer: str) -> None:
    """In place, weights only, as the library's own documentation does it: "quanto int8", "torchao int8"."""
    name, weights = quantizer.split()
    library = importlib.import_module(QUANTIZERS[name])
    if name == "quanto":
        library.quantize(module, weights=library.qtypes[f"q{weights}"])
        library.freeze(module)
    else:
        library.quantize_(module, library.Int8WeightOnlyConfig())


def training(
    phase: Callable[[str], None],
    folder: str,
    dtype: str,
    method: str,
    checkpointing: bool = False,
    quantizer: str = "",
    device: str = "cpu",
) -> Training:
    """Import, load and prepare; ``phase`` is called with "import" in between.

    Args:
        method: "forward" (a central difference of a token's loss), "backprop" (of a token, Adam), "lora" (of rank 2,
            Adam), "finetune" (the whole denoiser; each gradient is dropped at once, see `HOW`).
        quantizer: "quanto int8", "quanto int4" or "torchao int8".
    """
    needed = [QUANTIZERS[quantizer.split()[0]]] if quantizer else ["peft"] if method == "lora" else []
    hide(*({"torchao", "peft"} - {name.partition(".")[0] for name in needed}))
    for name in (*needed, "diffusers.models.unets.unet_2d_condition", "transformers.models.clip.modeling_clip"):
        importlib.import_module(name)
    import torch

    phase("import")
    unet, texts = denoiser(folder, dtype, quantizer).to(device), [text_encoder(folder, dtype, quantizer).to(device)]
    if is_xl := unet.config.addition_embed_type == "text_time":
        texts.append(text_encoder(folder, dtype, quantizer, second=True).to(device))
    if method == "lora":
        from peft import LoraConfig

        unet.add_adapter(LoraConfig(**LORA))
    if dtype == "bfloat16":  # a processor without bfloat16 takes 40 times as long for a convolution in the other order
        unet.to(memory_format=torch.channels_last)
    if checkpointing:
        unet.train().enable_gradient_checkpointing()
        for text in texts:
            text.train().gradient_checkpointing_enable()
    widths = [text.config.hidden_size for text in texts]
    token = torch.zeros(1, sum(widths), device=device, requires_grad=method == "backprop")
    ids = torch.arange(texts[0].config.max_position_embeddings, device=device)[None]
    side = unet.config.sample_size
    sizes = torch.tensor([[8.0 * side, 8.0 * side, 0, 0, 8.0 * side, 8.0 * side]], device=device).to(unet.dtype)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, side, side, generator=generator).to(device, unet.dtype)
    timestep = torch.tensor([500], device=device)
    for k, text in enumerate(texts):
        text.get_input_embeddings().register_forward_hook(
            lambda _m, _i, out, k=k: torch.cat(
                [out[:, :4], token.split(widths, 1)[k].to(out.dtype)[None], out[:, 5:]], 1
            )
        )

    def loss() -> Any:
        if is_xl:
            seen = [text(input_ids=ids, output_hidden_states=True) for text in texts]
            hidden = torch.cat([out.hidden_states[-2] for out in seen], dim=-1)
            more = {"added_cond_kwargs": {"text_embeds": seen[1].text_embeds, "time_ids": sizes}}
        else:
            hidden, more = texts[0](input_ids=ids).last_hidden_state, {}
        return (unet(noise, timestep, hidden, **more).sample.float() - noise.float()).pow(2).mean()

    def difference() -> None:
        with torch.no_grad():  # quanto's int4 tensors do not run in inference mode
            z = torch.randn(token.shape, generator=generator).to(device)
            slope = 0.0
            for sign in (1, -1):
                token.add_(1e-3 * sign * z)
                slope += sign * float(loss())
                token.sub_(1e-3 * sign * z)
            token.sub_(1e-3 * slope / 2e-3 * z)

    if method == "forward":
        return Training(difference, [token])
    if method == "finetune":
        learned = list(unet.requires_grad_(True).parameters())
        for weight in learned:
            weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
        count = sum(weight.numel() for weight in learned)
        computed = {"mb": ADAM_AND_GRADIENT * count / 1e6, "how": HOW.format(weights=f"{count:,}")}
        return Training(lambda: loss().backward(), learned, computed)
    learned = [weight for weight in (token, *unet.parameters()) if weight.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-3)

    def backprop() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return Training(backprop, learned)
