"""Errors in config files: one line that names the field and suggests the intended one."""

import pytest

from tljax.commands import command_line, config_files

PREFIX = 'import dataclasses\nimport tljax\ndef get_config():\n    return '


@pytest.mark.parametrize(
    ('code', 'wanted'),
    [
        ('tljax.Experiment(epoch=3)', "Experiment has no field 'epoch'; did you mean epochs?"),
        ('tljax.Experiment(bach_size=3)', 'did you mean batch_size?'),
        ('tljax.Experiment(lr=1)', "'lr'; learning_rate is a field of AdamW, SGD"),
        ('tljax.Experiment(pretrained=1)', 'did you mean weights of backbone?'),
        ('tljax.SGD(lr=1)', "SGD has no field 'lr'; did you mean learning_rate?"),
        ('dataclasses.replace(tljax.SGD(learning_rate=1), lr=2)', 'did you mean learning_rate?'),
        ('setattr(tljax.SGD(learning_rate=1), "lr", 2)', 'did you mean learning_rate?'),
        ('tljax.SGD(zzz=1)', 'its fields: learning_rate'),
        ('tljax.Folder()', "Folder needs a value for 'path'; its fields: path (required)"),
        ('tljax.Folder("data")', 'Folder takes its fields by name; its fields: path (required)'),
        ('tljax.Resnet(depth=18)', "tljax has no name 'Resnet'; did you mean tljax.ResNet?"),
        ('__import__("tljax", fromlist=["x"]).resnet()', 'did you mean tljax.ResNet?'),
        ('exec("from tljax import Resnet")', 'did you mean tljax.ResNet?'),
        ('{}["x"]', "KeyError: 'x'"),
        ('int("x", bases=2)', 'TypeError: '),
    ],
)
def test_an_error_in_a_config_file_names_the_field_and_suggests_the_intended_one(
    code, wanted, tmp_path
):
    path = tmp_path / 'mine.py'
    path.write_text(PREFIX + code)
    with pytest.raises(command_line.UsageError) as caught:
        config_files.load(command_line.ConfigArguments(spec=str(path)))
    message = str(caught.value)
    assert message.startswith(f'{path}:4: ')
    assert wanted in message
    assert '\n' not in message


def test_a_class_of_the_config_file_gets_the_same_suggestion(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        'import dataclasses\n@dataclasses.dataclass(kw_only=True)\nclass Mine:\n'
        '    strength: float = 1.0\ndef get_config():\n    return Mine(strenght=2)\n'
    )
    with pytest.raises(command_line.UsageError, match=r'Mine has no field .*mean strength\?$'):
        config_files.load(command_line.ConfigArguments(spec=str(path)))
