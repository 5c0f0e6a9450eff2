"""All corruptions, in the order of ImageNet-C."""

from collections.abc import Sequence

from tljax.augment.corruptions import blurs, digital, jpeg, noise, weather
from tljax.augment.corruptions.corruption import Corruption
from tljax.types import InputError

CORRUPTIONS: tuple[Corruption, ...] = (
    noise.GAUSSIAN,
    noise.SHOT,
    noise.IMPULSE,
    blurs.DEFOCUS,
    blurs.MOTION,
    blurs.ZOOM,
    weather.SNOW_FALL,
    weather.FROST,
    weather.FOG,
    digital.BRIGHTNESS,
    digital.CONTRAST,
    digital.ELASTIC_TRANSFORM,
    digital.PIXELATE,
    jpeg.JPEG,
)
NAMES = tuple(corruption.name for corruption in CORRUPTIONS)


def chosen(names: Sequence[str] | None) -> tuple[Corruption, ...]:
    """The corruptions of these names or groups, in the order of `CORRUPTIONS`; None for all.

    Raises:
        InputError: a name is unknown.
    """
    if names is None:
        return CORRUPTIONS
    groups = {corruption.group for corruption in CORRUPTIONS}
    unknown = [name for name in names if name not in {*NAMES, *groups}]
    if unknown:
        raise InputError(
            f'no corruption is called {", ".join(map(repr, unknown))}, wanted names of '
            f'{", ".join(NAMES)}, or groups: {", ".join(sorted(groups))}'
        )
    return tuple(one for one in CORRUPTIONS if one.name in names or one.group in names)
