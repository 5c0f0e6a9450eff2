"""The configuration of the image tower in a repository of a network of images and texts."""

from collections.abc import Mapping
from typing import Any

from tljax.models.backbones.clip import MEAN, STD

OPEN_CLIP_FILE = 'open_clip_config.json'
OPEN_CLIP = 'model_cfg'  # the field of that file with the networks


def prefers_open_clip(file: str, config: Mapping[str, Any]) -> bool:
    """Whether open_clip's configuration belongs to a file of weights, and not config.json.

    Repositories have the same network in several files: `open_clip_model.safetensors` with
    open_clip's names, and `model.safetensors` with those of transformers or timm.

    Args:
        file: the name of the file.
        config: the fields of config.json; empty if there is none.
    """
    return file.startswith('open_clip') or not config


def options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the image tower under the names that transformers has for them.

    Args:
        config: of transformers, whose `vision_config` overrides the options of both towers; of
            open_clip; or of one network, which is returned as it is.
    """
    if isinstance(config.get(OPEN_CLIP), Mapping):
        return _open_clip(config[OPEN_CLIP])
    tower = config.get('vision_config')
    if not isinstance(tower, Mapping):
        return config
    return {name: v for name, v in config.items() if name != 'vision_config'} | dict(tower)


def _open_clip(model: Mapping[str, Any]) -> dict[str, Any]:
    """Source: open_clip, src/open_clip/model.py, CLIPVisionCfg and _build_vision_tower."""
    tower = model.get('vision_cfg') or {}
    if timm_name := tower.get('timm_model_name'):
        return {'architecture': timm_name, 'global_pool': tower.get('timm_pool') or None}
    average = tower.get('global_average_pool') or tower.get('pool_type') == 'avg'
    result = {
        'hidden_size': tower.get('width'),
        'num_hidden_layers': tower.get('layers'),
        'patch_size': tower.get('patch_size'),
        'hidden_act': 'quick_gelu' if model.get('quick_gelu') else 'gelu',
        'layer_norm_eps': (tower.get('norm_kwargs') or {}).get('eps', 1e-5),
        'global_pool': 'avg' if average else None,
    }
    if isinstance(tower.get('width'), int):
        result['num_attention_heads'] = tower['width'] // tower.get('head_width', 64)
    return {name: value for name, value in result.items() if value is not None}


def preprocessing(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """open_clip's preprocessing under timm's names; None if the configuration is another's.

    Source: open_clip, src/open_clip/transform.py, PreprocessCfg.
    """
    model = config.get(OPEN_CLIP)
    if not isinstance(model, Mapping):
        return None
    images = config.get('preprocess_cfg') or {}
    size = images.get('size') or (model.get('vision_cfg') or {}).get('image_size', 224)
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    stated = {name: images[name] for name in ('mean', 'std', 'interpolation') if name in images}
    return {
        'input_size': [3, *sides],
        'crop_pct': 1.0,
        'mean': MEAN,
        'std': STD,
        'interpolation': 'bicubic',
        **stated,
    }
