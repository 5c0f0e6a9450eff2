"""What concerns a whole batch: several views of an image, and images mixed with each other.

Partners: row i of the global batch of n rows is mixed with row (i + n // 2) mod n. The order of a
batch is a function of the seed and the step, so the pairs are too, on any number of hosts and
devices; and views of one image, which stand side by side, are never partners. Rows are exchanged
between devices for it, once a step. How much of the partner a row takes is drawn from its own key.
Targets are combined in the same shares; sets of labels too, so that what one image alone has counts
as much as is seen of it.
"""

import dataclasses

import jax
import jax.numpy as jnp

from tljax.augment import colors
from tljax.augment.checks import at_least, more_than_0, share


@dataclasses.dataclass(slots=True, kw_only=True)
class Copy:
    """Puts `views` of each image into the batch, side by side; list it first.

    The step trains on `views` times the batch size; each view has keys of its own in what follows.

    Source: Hoffer et al. 2020, "Augment your batch: improving generalization through instance
    repetition".
    """

    views: int = 2

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(1, self, 'views')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; [B, ...] become [B views, ...]."""
        return repeat(images, self.views), repeat(targets, self.views)


@dataclasses.dataclass(slots=True, kw_only=True)
class MixUp:
    """Blends each image and its target with a partner's; the share is from Beta(alpha, alpha).

    Source: Zhang et al. 2018, "mixup: beyond empirical risk minimization".
    """

    alpha: float = 0.2
    probability: float = 1.0  # for a whole batch at once

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return more_than_0(self, 'alpha') + share(self, 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        shares = _blend_shares(key, self.alpha) * _chance(key, self.probability)
        return mix(images, targets, shares[:, None, None], shares)


@dataclasses.dataclass(slots=True, kw_only=True)
class CutMix:
    """Pastes a rectangle of a partner into each image; its share of the image's area is from
    Beta(alpha, alpha), before what juts out is cut off, and targets are mixed by what is left.

    Source: Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers".
    """

    alpha: float = 1.0
    probability: float = 1.0  # for a whole batch at once

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return more_than_0(self, 'alpha') + share(self, 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        masks = _boxes(key, images, self.alpha) * _chance(key, self.probability)
        return mix(images, targets, masks, masks.mean((1, 2)))


@dataclasses.dataclass(slots=True, kw_only=True)
class MixUpOrCutMix:
    """One of them for a whole batch: CutMix with a probability, else MixUp."""

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5
    probability: float = 1.0  # of either

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = more_than_0(self, 'mixup_alpha', 'cutmix_alpha')
        return found + share(self, 'cutmix_probability', 'probability')

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`; the targets become soft."""
        cut = _chance(jax.vmap(jax.random.fold_in, (0, None))(key, 1), self.cutmix_probability)
        blend = jnp.broadcast_to(
            _blend_shares(key, self.mixup_alpha)[:, None, None], images.shape[:3]
        )
        masks = jnp.where(cut > 0, _boxes(key, images, self.cutmix_alpha), blend)
        masks = masks * _chance(key, self.probability)
        return mix(images, targets, masks, masks.mean((1, 2)))


def repeat(rows: jax.Array, views: int) -> jax.Array:
    """[B, ...] to [B views, ...], copies side by side, so that no device sends any."""
    each = jnp.broadcast_to(rows[:, None], (len(rows), views, *rows.shape[1:]))
    return each.reshape(-1, *rows.shape[1:])


def mix(
    images: jax.Array, targets: jax.Array, masks: jax.Array, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Images and targets with their partners.

    Args:
        images: [B, H, W, 3].
        targets: [B, K].
        masks: [B, H, W] or [B, 1, 1], how much of each pixel is the partner's.
        shares: [B], how much of the target is.
    """
    masks, shares = masks[..., None], shares[:, None]
    half = len(images) // 2
    images = images * (1 - masks) + jnp.roll(images, -half, 0) * masks
    return images, targets * (1 - shares) + jnp.roll(targets, -half, 0) * shares


def _chance(keys: jax.Array, probability: float) -> jax.Array:
    """1.0 or 0.0 for the whole batch, by the key of its first row."""
    return jax.random.bernoulli(jax.random.fold_in(keys[0], 2), float(probability)).astype(
        jnp.float32
    )


def _blend_shares(keys: jax.Array, alpha: float) -> jax.Array:
    return jax.vmap(_beta, (0, None))(keys, alpha)


def _beta(key: jax.Array, alpha: float) -> jax.Array:
    if alpha == 1:  # uniform, and compiled in a tenth of the time
        return jax.random.uniform(key)
    return jax.random.beta(key, alpha, alpha)


def _boxes(keys: jax.Array, images: jax.Array, alpha: float) -> jax.Array:
    """[B, H, W] float32: 1 in each row's rectangle, of the image's own shape."""

    def one(key: jax.Array) -> jax.Array:
        side = jnp.sqrt(_beta(key, alpha))
        middle = jax.random.uniform(jax.random.fold_in(key, 3), (2,))
        return colors.box(images.shape[1], images.shape[2], middle, jnp.stack([side, side]))

    return jax.vmap(one)(keys).astype(jnp.float32)
