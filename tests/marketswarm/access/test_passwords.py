import json
import stat
from pathlib import Path

import pytest

from marketswarm.access.passwords import (
    SecretError,
    format_acl_files,
    load_passwords,
    make_folder_name,
    replace_url_user,
    write_files,
)
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth

TRUTH = parse_truth(json.dumps({"services": {"a": {}}}).encode()).truth


def test_passwords_are_made_once_for_their_owner_s_eyes(tmp_path):
    folder = tmp_path / "secrets"
    first, made = load_passwords(folder, ["a", "b"], make_missing=True)
    assert made == ["a", "b"]
    assert first["a"] != first["b"]
    assert len(first["a"]) > 40
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert load_passwords(folder, ["a", "b", "c"], make_missing=True) == (
        {**first, "c": load_passwords(folder, ["c"])[0]["c"]},
        ["c"],
    )
    assert sorted(file.name for file in folder.iterdir()) == ["a", "b", "c"]


def test_where_other_machines_join_default_has_a_password_whatever_was_removed(tmp_path):
    """`seed` renews users while the servers listen for other machines: it must let nobody in."""
    load_passwords(tmp_path, ["a", "default", "join"], make_missing=True)
    (tmp_path / "default").unlink()
    with pytest.raises(SecretError, match="no password for default"):
        load_passwords(tmp_path, ["a"])
    passwords, made = load_passwords(tmp_path, ["a"], make_missing=True)
    assert (sorted(passwords), made) == (["a", "default", "join"], ["default"])


def test_what_is_missing_is_named_and_not_made_unasked(tmp_path):
    with pytest.raises(SecretError, match="no password for a, b: --make-secrets"):
        load_passwords(tmp_path, ["a", "b"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"short-secret\n", b"x" * 5000, b"\xff" * 20, b"two\nlines of a secret"]
)
def test_a_password_that_won_t_do_is_named_by_its_file_and_not_shown(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(SecretError, match="a: ") as caught:
        load_passwords(tmp_path, ["a"])
    assert not content.strip() or content.decode("utf-8", "replace").strip() not in str(caught.value)


def test_no_password_is_in_the_file_of_a_bus(tmp_path):
    known, _ = load_passwords(tmp_path, ["a", "bootstrap", "operator"], make_missing=True)
    texts = format_acl_files(TRUTH, known, MonitorSettings(), ())
    assert list(texts) == ["system-redis", "market-redis"]
    assert not any(password in text for password in known.values() for text in texts.values())
    assert texts == format_acl_files(TRUTH, known, MonitorSettings(), ())
    assert texts != format_acl_files(TRUTH, {**known, "a": "another password"}, MonitorSettings(), ())


def test_files_are_written_whole_or_none_of_them(tmp_path):
    good, bad = tmp_path / "one" / "users.acl", tmp_path / "file" / "users.acl"
    (tmp_path / "file").write_text("in the way")
    good.parent.mkdir()
    good.write_text("before")
    with pytest.raises(FileExistsError):
        write_files({good: "after", bad: "after"}, 0o644)
    assert good.read_text() == "before"
    assert list(good.parent.iterdir()) == [good]
    write_files({good: "after"}, 0o640)
    assert good.read_text() == "after"
    assert stat.S_IMODE(good.stat().st_mode) == 0o640


def test_a_bus_s_folder_stays_in_its_place():
    assert make_folder_name("system-redis") == "system-redis"
    for name in ("../etc", "/run/x.sock", "h:6379/1", "..", ""):
        assert Path(make_folder_name(name)).name == make_folder_name(name)
        assert make_folder_name(name)[0] != "."


def test_a_url_is_given_a_user():
    assert replace_url_user("redis://127.0.0.1:6379", "a", "p") == "redis://a:p@127.0.0.1:6379"
    assert replace_url_user("redis://x:y@h:1/2", "a", "p/@:%") == "redis://a:p%2F%40%3A%25@h:1/2"
