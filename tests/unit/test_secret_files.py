"""Secrets are texts of a file, and no error shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.errors import ConfigError
from forebay.secret_files import open_to_all, read_secrets

if TYPE_CHECKING:
    from pathlib import Path


def test_secrets_are_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret.toml"
    file.write_text(
        '\ufeffkey = "k"\nsasl.username = "u"\n"sasl.password" = "p"\n', encoding="utf-8"
    )
    found = {"key": "k", "sasl.username": "u", "sasl.password": "p"}
    assert read_secrets(str(file), "v") == found
    assert read_secrets("", "v") == {}


@pytest.mark.parametrize("text", ["", "key = 7\n", "top secret", '[a]\nb = ["top secret"]\n'])
def test_a_file_without_secrets_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="no secrets as TOML texts") as caught:
        read_secrets(str(file), "v")
    assert "top secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_secrets(str(file), "v")


def test_secrets_that_everybody_may_read_are_named(tmp_path: Path) -> None:
    file, key = tmp_path / "secret.toml", tmp_path / "key.pem"
    file.write_text('id = "k"\nkey_file = "key.pem"\n')
    key.write_text("top secret")
    for mode, seen in ((0o600, []), (0o640, []), (0o644, [str(key)])):
        file.chmod(0o600)
        key.chmod(mode)
        assert open_to_all(str(file)) == seen
    file.chmod(0o604)
    assert open_to_all(str(file)) == [str(file), str(key)]
    assert open_to_all("") == []


def test_a_secret_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "secret.toml"
    file.write_text('key_id = "k"\nkey_file = "key.pem"\n')
    (tmp_path / "key.pem").write_text("PEM")
    assert read_secrets(str(file), "v") == {"key_id": "k", "key": "PEM"}


@pytest.mark.parametrize("text", ["top secret", "top secret\n" * 1000])
def test_a_secret_in_the_place_of_its_file_is_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret.toml"
    file.write_text(f'key_file = """{text}"""\n')
    with pytest.raises(ConfigError, match="names a file as key_file that cannot be read") as caught:
        read_secrets(str(file), "v")
    assert "top secret" not in str(caught.value)
