"""The cases of CLIP under the names of OpenAI, transformers, timm and open_clip."""


# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import timm
import torch
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case

FIELDS = {'class': 'tljax:CLIP', 'width': 64, 'patch_px': 16, 'size_px': 32}
PLAIN = {'position_resizing': {'enum': 'tljax:PositionResizing', 'value': 'plain'}}
EMBEDDING = 24


class Named(torch.nn.Module):
    """Parameters of any names with dots, and a function of them."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        network: torch.nn.Module,
        names: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    ) -> None:
        """`names` turns the parameters into the state dict of `network`."""
        super().__init__()
        self.network, self.names = [network], names  # a list: its parameters are not ours
        for name, shape in shapes.items():
            module: torch.nn.Module = self
            *parts, last = name.split('.')
            for part in parts:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to the network's output."""
        network = self.network[0].train(self.training)
        state = self.names(dict(self.named_parameters()))
        return torch.func.functional_call(network, state, (x,), strict=True)


class Prefixed(torch.nn.Module):
    """open_clip's names of a tower of timm: `visual.trunk`, and `visual.head.proj`."""

    def __init__(self, trunk: torch.nn.Module, projection: torch.nn.Module | None = None) -> None:
        """The projection has no bias."""
        super().__init__()
        self.visual = torch.nn.Module()
        self.visual.trunk = trunk
        if projection is not None:
            self.visual.head = torch.nn.Module()
            self.visual.head.proj = projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to the output of both."""
        x = self.visual.trunk(x)
        return self.visual.head.proj(x) if hasattr(self.visual, 'head') else x


def tower(num_classes: int, **fields: object) -> torch.nn.Module:
    """A tower of timm."""
    fields = {'depth': 3, 'drop_path_rate': 0.4} | fields
    return timm.models.VisionTransformer(
        img_size=32,
        patch_size=16,
        embed_dim=64,
        num_heads=1,
        num_classes=num_classes,
        pre_norm=True,
        norm_layer=partial(timm.layers.LayerNorm, eps=1e-5),
        dynamic_img_size=True,
        **fields,
    )


def openai_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """The entries of an image tower in github.com/openai/CLIP."""
    shapes: dict[str, tuple[int, ...]] = {
        'visual.class_embedding': (64,),
        'visual.positional_embedding': (5, 64),
        'visual.proj': (64, EMBEDDING),
        'visual.conv1.weight': (64, 3, 16, 16),
    }
    for name in ('ln_pre', 'ln_post'):
        shapes |= {f'visual.{name}.{kind}': (64,) for kind in ('weight', 'bias')}
    for block in range(depth):
        here = f'visual.transformer.resblocks.{block}'
        shapes |= {
            f'{here}.attn.in_proj_weight': (192, 64), f'{here}.attn.in_proj_bias': (192,),
            f'{here}.attn.out_proj.weight': (64, 64), f'{here}.attn.out_proj.bias': (64,),
            f'{here}.ln_1.weight': (64,), f'{here}.ln_1.bias': (64,),
            f'{here}.mlp.c_fc.weight': (256, 64), f'{here}.mlp.c_fc.bias': (256,),
            f'{here}.mlp.c_proj.weight': (64, 256), f'{here}.mlp.c_proj.bias': (64,),
            f'{here}.ln_2.weight': (64,), f'{here}.ln_2.bias': (64,),
        }  # fmt: skip
    return shapes


def openai_names(entries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of timm's tower, by timm's own conversion."""
    convert = timm.models.vision_transformer._convert_openai_clip
    state = convert(entries, None)  # type: ignore[arg-type]
    return {name: value.to(entries['visual.proj'].dtype) for name, value in state.items()}


def vision_config(**fields: object) -> transformers.CLIPVisionConfig:
    """A tower of transformers."""
    return transformers.CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=32,
        patch_size=16,
        projection_dim=EMBEDDING,
        **fields,
    )


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'openai',
        Case(
            module=Named(openai_shapes(3), tower(EMBEDDING, act_layer='quick_gelu'), openai_names),
            backbone={**FIELDS, 'depth': 3, 'projection': EMBEDDING, 'drop_path': 0.4},
            naming='openai',
            size=32,
            sizes=(32, 48),
        ),
    )
    yield 'transformers', Case(
        module=transformers.CLIPVisionModelWithProjection(vision_config(hidden_act='gelu')),
        backbone={
            **FIELDS, **PLAIN, 'depth': 2, 'mlp_ratio': 2.0, 'projection': EMBEDDING,
            'activation': 'gelu',
        },
        naming='transformers',
        size=32,
        sizes=(32, 48),
        outputs=lambda m, x: m(x, interpolate_pos_encoding=True).image_embeds,
        options={'hidden_act': 'gelu'},
    )  # fmt: skip
    config = transformers.CLIPConfig(
        vision_config=vision_config().to_dict(), num_labels=figures.CLASSES
    )
    yield (
        'transformers_classifier',
        Case(
            module=transformers.CLIPForImageClassification(config),
            backbone={**FIELDS, **PLAIN, 'depth': 2, 'mlp_ratio': 2.0, 'final_norm': False},
            naming='transformers',
            size=32,
            sizes=(32, 48),
            outputs=lambda m, x: m(x, interpolate_pos_encoding=True).logits,
        ),
    )
    yield (
        'timm',
        Case(
            module=tower(figures.CLASSES),
            backbone={**FIELDS, 'depth': 3, 'activation': 'gelu', 'drop_path': 0.4},
            naming='timm',
            size=32,
            sizes=(32, 48),
        ),
    )
    yield 'open_clip', Case(
        module=Prefixed(tower(0, depth=2), torch.nn.Linear(64, EMBEDDING, bias=False)),
        backbone={
            **FIELDS, 'depth': 2, 'activation': 'gelu', 'projection': EMBEDDING, 'drop_path': 0.4,
        },
        naming='open_clip',
        size=32,
    )  # fmt: skip
