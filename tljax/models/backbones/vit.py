"""Vision Transformer (Dosovitskiy et al. 2020) with a class token, as in torchvision and timm.

The final layer norm belongs to the last block's stage, so that the stage's output is what the
literature calls the network's features, and the head is a linear layer alone.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.models import layers, port
from tljax.types import InputError, MisfitError, Preprocessing

HEAD_WIDTHS = {1280: 80}  # attention head width by model width, where it is not 64
ACTIVATIONS = {
    'gelu': functools.partial(nn.gelu, approximate=False),
    'gelu_tanh': functools.partial(nn.gelu, approximate=True),
    'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # CLIP's
    'relu': nn.relu,
}
# Epsilon of layer norms; torchvision and timm use 1e-6.
EPSILON = {'transformers': 1e-12, 'transformers4': 1e-12}


@dataclasses.dataclass(slots=True, kw_only=True)
class ViT:
    """Stages `embed, block1 ... blockN`, of class token and patches [B, 1 + patches, width].

    Published sizes, as width and depth: Ti 192, 12; S 384, 12; B 768, 12 (the default); L 1024,
    24; H 1280, 32, whose attention heads are 80 wide instead of 64. `size_px` is the image size of
    the position embeddings; they are resized if the model reads another size. `weights` names
    pretrained weights (see the folder `weights`), None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 16
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    epsilon: float = 1e-6
    activation: str = 'gelu'
    dropout: float = 0.0
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = [
            f'{name} is {getattr(self, name)}, wanted more than 0'
            for name in (
                'width',
                'depth',
                'patch_px',
                'size_px',
                'head_width',
                'mlp_ratio',
                'epsilon',
            )
            if getattr(self, name) <= 0
        ]
        if self.head_width > 0 and self.width % self.head_width:
            problems.append(f'width is {self.width}, wanted a multiple of {self.head_width}')
        if self.patch_px > 0 and self.size_px % self.patch_px:
            problems.append(f'size_px is {self.size_px}, wanted a multiple of {self.patch_px}')
        if self.activation not in ACTIVATIONS:
            problems.append(f'activation is {self.activation!r}, wanted one of {list(ACTIVATIONS)}')
        if not 0 <= self.dropout < 1:
            problems.append(f'dropout is {self.dropout}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'embed': Embed(self.width, self.patch_px, self.dropout)}
        for index in range(1, self.depth + 1):
            result[f'block{index}'] = Block(
                width=self.width,
                head_width=self.head_width,
                inner=round(self.width * self.mlp_ratio),
                epsilon=self.epsilon,
                activation=self.activation,
                dropout=self.dropout,
                last=index == self.depth,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the class token."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 224 px from 256, other sizes without resizing.

        The ImageNet-21k weights of Google and timm ("augreg") need mean and standard deviation
        0.5, which their hub repositories state and a bare file does not.
        """
        resize_px = 256 if self.size_px == 224 else self.size_px
        return Preprocessing(size_px=self.size_px, resize_px=resize_px)

    def port_tables(self) -> Mapping[str, Sequence[port.PortRule]]:
        """The names of torchvision, timm, transformers from release 5 and before it, and of
        Google's `.npz` files.
        """
        last = f'block{self.depth}/norm'
        return {
            'torchvision': _torchvision(last),
            'timm': _timm(last),
            'transformers': _transformers(last, V5),
            'transformers4': _transformers(last, V4),
            'google': _google(last, self.head_width),
        }

    @classmethod
    def variants(cls) -> Sequence['ViT']:
        """One: of the tables only the last norm's path depends on the depth."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ViT | None':
        """Width and patch from the patch embedding, depth from the blocks, size from positions."""
        patch = shapes.get('params/embed/patch/kernel', ())
        depth = sum(tree.matches('params/*/qkv/kernel', path) for path in shapes)
        positions = shapes.get('params/embed/position_embedding', ())
        mlp = shapes.get('params/block1/fc1/kernel', ())
        if len(patch) != 4 or len(positions) != 3 or len(mlp) != 2 or not depth:
            return None
        grid = math.isqrt(positions[1] - 1)
        head_width = HEAD_WIDTHS.get(patch[3], 64)
        if grid**2 != positions[1] - 1:
            count = positions[1] - 1
            raise MisfitError(f'it has {count} patch positions, wanted a square number')
        if patch[3] % head_width:
            raise MisfitError(
                f'its width {patch[3]} is not a multiple of {head_width}: name the backbone, as in '
                f'ViT(width={patch[3]}, head_width=...)'
            )
        return ViT(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=head_width,
            mlp_ratio=mlp[1] / patch[3],
            epsilon=EPSILON.get(naming, 1e-6),
        )


def _torchvision(last: str) -> tuple[port.PortRule, ...]:
    theirs, ours = 'encoder.layers.encoder_layer_{b}', 'block{b+1}'
    mlp = [
        *port.layer(f'{theirs}.mlp.0', f'{ours}/fc1', port.LINEAR),
        *port.layer(f'{theirs}.mlp.3', f'{ours}/fc2', port.LINEAR),
    ]
    published = [  # torchvision's published files have these names, its modules those above
        *port.layer(f'{theirs}.mlp.linear_1', f'{ours}/fc1', port.LINEAR),
        *port.layer(f'{theirs}.mlp.linear_2', f'{ours}/fc2', port.LINEAR),
    ]
    attention = f'{theirs}.self_attention'
    return (
        port.PortRule('class_token', 'params/embed/class_token'),
        port.PortRule('encoder.pos_embedding', 'params/embed/position_embedding'),
        *port.layer('conv_proj', 'embed/patch', port.CONV),
        *port.layer_norm(f'{theirs}.ln_1', f'{ours}/norm1'),
        port.PortRule(f'{attention}.in_proj_weight', f'params/{ours}/qkv/kernel', port.LINEAR),
        port.PortRule(f'{attention}.in_proj_bias', f'params/{ours}/qkv/bias'),
        *port.layer(f'{attention}.out_proj', f'{ours}/out', port.LINEAR),
        *port.layer_norm(f'{theirs}.ln_2', f'{ours}/norm2'),
        *mlp,
        *(dataclasses.replace(rule, alias=True) for rule in published),
        *port.layer_norm('encoder.ln', last),
        *port.head('heads.head'),
    )


def _timm(last: str) -> tuple[port.PortRule, ...]:
    theirs, ours = 'blocks.{b}', 'block{b+1}'
    return (
        port.PortRule('cls_token', 'params/embed/class_token'),
        port.PortRule('pos_embed', 'params/embed/position_embedding'),
        *port.layer('patch_embed.proj', 'embed/patch', port.CONV),
        *port.layer_norm(f'{theirs}.norm1', f'{ours}/norm1'),
        *port.layer(f'{theirs}.attn.qkv', f'{ours}/qkv', port.LINEAR),
        *port.layer(f'{theirs}.attn.proj', f'{ours}/out', port.LINEAR),
        *port.layer_norm(f'{theirs}.norm2', f'{ours}/norm2'),
        *port.layer(f'{theirs}.mlp.fc1', f'{ours}/fc1', port.LINEAR),
        *port.layer(f'{theirs}.mlp.fc2', f'{ours}/fc2', port.LINEAR),
        *port.layer_norm('norm', last),
        *port.head('head'),
    )


@functools.cache
def _per_head(head_width: int) -> tuple[port.Transform, port.Transform, port.Transform]:
    """Per-head layouts of Flax: [3 width, heads, head], [3 heads, head], [heads, head, width]."""

    def qkv(x: np.ndarray) -> np.ndarray:
        return x.reshape(3, len(x) // 3, -1).transpose(1, 0, 2).reshape(len(x) // 3, -1)

    def qkv_back(x: np.ndarray) -> np.ndarray:
        parts = x.reshape(len(x), 3, -1).transpose(1, 0, 2)
        return parts.reshape(3 * len(x), -1, head_width)

    return (
        port.Transform(qkv, qkv_back, 'heads joined'),
        port.Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, head_width), 'flat'),
        port.Transform(
            lambda x: x.reshape(-1, x.shape[-1]),
            lambda x: x.reshape(-1, head_width, x.shape[-1]),
            'heads joined',
        ),
    )


def _google(last: str, head_width: int) -> tuple[port.PortRule, ...]:
    theirs, ours = 'Transformer/encoderblock_{b}', 'block{b+1}'
    attention = f'{theirs}/MultiHeadDotProductAttention_1'
    qkv, bias, out = _per_head(head_width)
    kernels, biases = (
        tuple(f'{attention}/{part}/{kind}' for part in ('query', 'key', 'value'))
        for kind in ('kernel', 'bias')
    )
    alike = {
        'embedding': 'embed/patch',
        f'{theirs}/MlpBlock_3/Dense_0': f'{ours}/fc1',
        f'{theirs}/MlpBlock_3/Dense_1': f'{ours}/fc2',
        'head': 'head/linear',
    }
    norms = {
        f'{theirs}/LayerNorm_0': f'{ours}/norm1',
        f'{theirs}/LayerNorm_2': f'{ours}/norm2',
        'Transformer/encoder_norm': last,
    }
    position = 'params/embed/position_embedding'
    rules = (
        port.PortRule('cls', 'params/embed/class_token'),
        port.PortRule('Transformer/posembed_input/pos_embedding', position),
        port.PortRule(kernels, f'params/{ours}/qkv/kernel', qkv),
        port.PortRule(biases, f'params/{ours}/qkv/bias', bias),
        port.PortRule(f'{attention}/out/kernel', f'params/{ours}/out/kernel', out),
        port.PortRule(f'{attention}/out/bias', f'params/{ours}/out/bias'),
        *(
            port.PortRule(f'{a}/{kind}', f'params/{b}/{kind}')
            for pairs, kinds in ((alike, ('kernel', 'bias')), (norms, ('scale', 'bias')))
            for a, b in pairs.items()
            for kind in kinds
        ),
    )
    others = zip(rules, map(_of_big_vision, rules), strict=True)
    return (*rules, *(other for rule, other in others if other.names != rule.names))


BIG_VISION = {
    'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
    'MlpBlock_3': 'MlpBlock_0',
    'LayerNorm_2': 'LayerNorm_1',
    'Transformer/posembed_input/pos_embedding': 'pos_embedding',
}


def _of_big_vision(rule: port.PortRule) -> port.PortRule:
    """The same under the names of github.com/google-research/big_vision, models/vit.py."""
    names = rule.names
    for theirs, other in BIG_VISION.items():
        names = tuple(name.replace(theirs, other) for name in names)
    return dataclasses.replace(rule, foreign=names, alias=True)


@dataclasses.dataclass(frozen=True)
class _Transformers:
    """The names of a block's parts in one release of transformers."""

    block: str
    qkv: str
    parts: tuple[str, str, str]
    out: str
    fc1: str
    fc2: str


V5 = _Transformers(
    block='vit.layers.{b}',
    qkv='attention',
    parts=('q_proj', 'k_proj', 'v_proj'),
    out='attention.o_proj',
    fc1='mlp.fc1',
    fc2='mlp.fc2',
)
V4 = _Transformers(
    block='vit.encoder.layer.{b}',
    qkv='attention.attention',
    parts=('query', 'key', 'value'),
    out='attention.output.dense',
    fc1='intermediate.dense',
    fc2='output.dense',
)


def _transformers(last: str, names: _Transformers) -> tuple[port.PortRule, ...]:
    theirs, ours = names.block, 'block{b+1}'
    weights, biases = (
        tuple(f'{theirs}.{names.qkv}.{part}.{kind}' for part in names.parts)
        for kind in ('weight', 'bias')
    )
    rules = (
        port.PortRule('vit.embeddings.cls_token', 'params/embed/class_token'),
        port.PortRule('vit.embeddings.position_embeddings', 'params/embed/position_embedding'),
        *port.layer('vit.embeddings.patch_embeddings.projection', 'embed/patch', port.CONV),
        *port.layer_norm(f'{theirs}.layernorm_before', f'{ours}/norm1'),
        port.PortRule(weights, f'params/{ours}/qkv/kernel', port.LINEAR),
        port.PortRule(biases, f'params/{ours}/qkv/bias'),
        *port.layer(f'{theirs}.{names.out}', f'{ours}/out', port.LINEAR),
        *port.layer_norm(f'{theirs}.layernorm_after', f'{ours}/norm2'),
        *port.layer(f'{theirs}.{names.fc1}', f'{ours}/fc1', port.LINEAR),
        *port.layer(f'{theirs}.{names.fc2}', f'{ours}/fc2', port.LINEAR),
        *port.layer_norm('vit.layernorm', last),
        # The pooler comes from BERT; no image classifier reads it.
        port.PortRule('vit.pooler.dense.weight', None),
        port.PortRule('vit.pooler.dense.bias', None),
    )
    return (*rules, *port.without_prefix(rules, 'vit.'), *port.head('classifier'))


class Embed(nn.Module):
    """A class token and the patches as tokens, with position embeddings."""

    width: int
    patch_px: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, 1 + (H / patch) (W / patch), width].

        Raises:
            InputError: the sides are not multiples of `patch_px`.
        """
        if x.shape[1] % self.patch_px or x.shape[2] % self.patch_px:
            raise InputError(
                f'images are {x.shape[1]} x {x.shape[2]} px, wanted multiples of {self.patch_px}'
            )
        patch = (self.patch_px, self.patch_px)
        x = nn.Conv(self.width, patch, patch, padding='VALID', name='patch')(x)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param('class_token', nn.initializers.zeros, (1, 1, self.width))
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([token, x], 1)
        shape = (1, *x.shape[1:])
        x = x + self.param('position_embedding', nn.initializers.normal(0.02), shape)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)


class Block(nn.Module):
    """Self-attention and an MLP, each after a layer norm; the last block ends with another norm."""

    width: int
    head_width: int
    inner: int
    epsilon: float
    activation: str
    dropout: float
    last: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, width] to [B, T, width], T tokens."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        y = layers.layer_norm(self.epsilon, 'norm1')(x)
        qkv = layers.dense(3 * self.width, 'qkv')(y)
        q, k, v = jnp.split(qkv.reshape(*qkv.shape[:2], -1, self.head_width), 3, axis=2)
        y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        x = x + drop(layers.dense(self.width, 'out')(y))
        y = layers.layer_norm(self.epsilon, 'norm2')(x)
        y = drop(ACTIVATIONS[self.activation](layers.dense(self.inner, 'fc1')(y)))
        x = x + drop(layers.dense(self.width, 'fc2')(y))
        return layers.layer_norm(self.epsilon, 'norm')(x) if self.last else x
