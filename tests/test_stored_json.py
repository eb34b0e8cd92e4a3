import json

import pytest

from keras_luong.stored_json import (
    anything,
    flag,
    list_of,
    mapping_of,
    read_json,
    record,
    text,
    whole,
)
from tests.hostile_files import DEEP

CHECK = record(
    {"n": whole(1, 9)},
    {"on": flag, "name": text("[a-z]+"), "pair": list_of(whole(), 2), "by": mapping_of(whole())},
)
GOOD = {"n": 3, "on": False, "name": "a", "pair": [0, 1], "by": {"x": 2}}


def test_what_is_right_is_read(tmp_path):
    for value in (GOOD, {"n": 9}):
        (tmp_path / "a.json").write_text(json.dumps(value))
        assert read_json(tmp_path / "a.json", CHECK) == value
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json", CHECK)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (b"\xff", "can't decode byte 0xff"),
        (b"\0\0\0\0", "Expecting value"),
        (DEEP, "it must be nested at most 50 levels deep"),
        ('{"n": 1, "by": ' + "[" * 60 + "]" * 60 + "}", "at most 50 levels deep"),
        ('{"n": 1, "n": 2}', "the name 'n' must be given once"),
        ("[1]", r"it must be an object that holds n and may hold on, name.* Received: \[1\]"),
        ("{}", "it must be an object that holds n"),
        ('{"n": 1, "m": 1}', "it must be an object that holds n"),
        ('{"n": 5.5}', "`n` must be an integer of at least 1 and at most 9. Received: 5.5"),
        ('{"n": 5.0}', "`n` must be an integer"),
        ('{"n": NaN}', "`n` must be an integer .* Received: nan"),
        ('{"n": true}', "`n` must be an integer .* Received: True"),
        ('{"n": "1"}', "`n` must be an integer"),
        ('{"n": null}', "`n` must be an integer .* Received: None"),
        ('{"n": 0}', "`n` must be an integer"),
        ('{"n": 1' + "0" * 400 + "}", "`n` must be an integer"),
        ('{"n": 1' + "0" * 5000 + "}", "Exceeds the limit"),
        ('{"n": 1, "on": 1}', "`on` must be true or false. Received: 1"),
        ('{"n": 1, "name": ""}', r"`name` must be a string such as matches \[a-z\]\+"),
        ('{"n": 1, "name": 3}', "`name` must be a string"),
        ('{"n": 1, "pair": [1]}', "`pair` must be a list of 2"),
        ('{"n": 1, "pair": {}}', "`pair` must be a list of 2"),
        ('{"n": 1, "pair": [1, -1]}', r"`pair\[1\]` must be an integer of at least 0"),
        ('{"n": 1, "by": []}', "`by` must be an object"),
        ('{"n": 1, "by": {"x": "y"}}', "`by.x` must be an integer"),
        ('{"n": "' + "x" * 10_000 + '"}', r"Received: 'x{1,20}\.\.\.x{1,20}'$"),
    ],
)
def test_one_error_names_file_place_and_fault(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"a.json' cannot be read: .*{message}") as error:
        read_json(file, CHECK)
    assert len(str(error.value)) < 500


def test_large_files_are_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**26 + 1)  # takes no room
    with pytest.raises(ValueError, match="at most 67108864 bytes. Received: 67108865"):
        read_json(tmp_path / "a.json", anything)
