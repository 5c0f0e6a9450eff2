"""Augmentations of a full batch: several views of an image, and mixtures of two images.

Row i of the global batch of n rows is mixed with its partner, row (i + n // 2) mod n. A batch's
order depends only on the seed and the step, so the pairs are the same on any number of hosts and
devices, and adjacent views of one image are never partners. Devices exchange rows once a step. A
row's own key draws the partner's share. Targets are mixed by the same shares, multi-hot targets
too.
"""

import dataclasses

import jax
import jax.numpy as jnp

from tljax.augment import colors
from tljax.augment.checks import at_least, more_than_0, share


@dataclasses.dataclass(slots=True, kw_only=True)
class Copy:
    """Puts `views` copies of each image into the batch, adjacent; list it first.

    The step trains on `views` times the batch size; each view has its own keys afterwards.

    Attributes:
        views: copies of each image.

    Source: Hoffer et al. 2020, "Augment your batch: improving generalization through instance
    repetition".
    """

    views: int = 2

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(1, self, 'views')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; [B, ...] become [B views, ...]."""
        return repeat(images, self.views), repeat(targets, self.views)


@dataclasses.dataclass(slots=True, kw_only=True)
class MixUp:
    """Blends each image and its target with a partner's; its share is from Beta(alpha, alpha).

    Attributes:
        alpha: of the distribution Beta(alpha, alpha).
        probability: that a batch is mixed.

    Source: Zhang et al. 2018, "mixup: beyond empirical risk minimization".
    """

    alpha: float = 0.2
    probability: float = 1.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return more_than_0(self, 'alpha') + share(self, 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        shares = _blend_shares(key, self.alpha) * _chance(key, self.probability)
        return mix(images, targets, shares[:, None, None], shares)


@dataclasses.dataclass(slots=True, kw_only=True)
class CutMix:
    """Pastes a rectangle of a partner into each image. Its share of the area is drawn from
    Beta(alpha, alpha) before it is clipped to the image; targets are mixed by the clipped share.

    Attributes:
        alpha: of the distribution Beta(alpha, alpha).
        probability: that a batch is mixed.

    Source: Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers".
    """

    alpha: float = 1.0
    probability: float = 1.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return more_than_0(self, 'alpha') + share(self, 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        masks = _boxes(key, images, self.alpha) * _chance(key, self.probability)
        return mix(images, targets, masks, masks.mean((1, 2)))


@dataclasses.dataclass(slots=True, kw_only=True)
class MixUpOrCutMix:
    """CutMix with a probability, else MixUp, for the full batch.

    Attributes:
        mixup_alpha: as in `MixUp`.
        cutmix_alpha: as in `CutMix`.
        cutmix_probability: that a mixed batch is mixed by CutMix.
        probability: that a batch is mixed.
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5
    probability: float = 1.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = more_than_0(self, 'mixup_alpha', 'cutmix_alpha')
        return problems + share(self, 'cutmix_probability', 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        is_cut = _chance(jax.vmap(jax.random.fold_in, (0, None))(key, 1), self.cutmix_probability)
        blend = jnp.broadcast_to(
            _blend_shares(key, self.mixup_alpha)[:, None, None], images.shape[:3]
        )
        masks = jnp.where(is_cut > 0, _boxes(key, images, self.cutmix_alpha), blend)
        masks = masks * _chance(key, self.probability)
        return mix(images, targets, masks, masks.mean((1, 2)))


def repeat(rows: jax.Array, views: int) -> jax.Array:
    """[B, ...] to [B views, ...]; copies are adjacent, so devices exchange nothing."""
    copies = jnp.broadcast_to(rows[:, None], (len(rows), views, *rows.shape[1:]))
    return copies.reshape(-1, *rows.shape[1:])


def mix(
    images: jax.Array, targets: jax.Array, masks: jax.Array, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mixes images and targets with their partners.

    Args:
        images: [B, H, W, 3].
        targets: [B, K].
        masks: [B, H, W] or [B, 1, 1], the partner's share of each pixel.
        shares: [B], the partner's share of the target.
    """
    masks, shares = masks[..., None], shares[:, None]
    half = len(images) // 2
    images = images * (1 - masks) + jnp.roll(images, -half, 0) * masks
    return images, targets * (1 - shares) + jnp.roll(targets, -half, 0) * shares


def _chance(keys: jax.Array, probability: float) -> jax.Array:
    """1.0 or 0.0 for the full batch, from the key of its first row."""
    return jax.random.bernoulli(jax.random.fold_in(keys[0], 2), float(probability)).astype(
        jnp.float32
    )


def _blend_shares(keys: jax.Array, alpha: float) -> jax.Array:
    return jax.vmap(_beta, (0, None))(keys, alpha)


def _beta(key: jax.Array, alpha: float) -> jax.Array:
    if alpha == 1:  # the uniform distribution, which compiles ten times faster
        return jax.random.uniform(key)
    return jax.random.beta(key, alpha, alpha)


def _boxes(keys: jax.Array, images: jax.Array, alpha: float) -> jax.Array:
    """[B, H, W] float32: 1 inside each row's rectangle, with the image's aspect ratio."""

    def inside(key: jax.Array) -> jax.Array:
        side = jnp.sqrt(_beta(key, alpha))
        middle = jax.random.uniform(jax.random.fold_in(key, 3), (2,))
        return colors.box(images.shape[1], images.shape[2], middle, jnp.stack([side, side]))

    return jax.vmap(inside)(keys).astype(jnp.float32)
