from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from appliance.domain import Call, Caller
from appliance.errors import UnknownModel
from appliance.gateway.policy import cache_salt, permit
from appliance.store.registry import ModelRecord

MODELS = {"chatty": ModelRecord("chatty", frozenset({"chat"}), 4096, 0)}
ONE = Caller("account-1", "key-1")


def call(model: str = "chatty", endpoint: str = "chat") -> Call:
    return Call("chat" if endpoint == "chat" else "completions", model, False, False, False)  # noqa: FBT003  # its fields


def test_a_model_is_permitted_where_it_serves() -> None:
    permit(call(), MODELS)


@pytest.mark.parametrize(
    "refused",
    [call("other"), call(endpoint="completions"), call("")],
    ids=["unknown", "other endpoint", "empty"],
)
def test_any_other_model_is_unknown(refused: Call) -> None:
    with pytest.raises(UnknownModel) as caught:
        permit(refused, MODELS)

    assert str(caught.value) == UnknownModel.message


def test_a_salt_has_the_letters_that_engines_take() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cache_salt(ONE, call()))


def test_keys_of_one_account_share_a_salt() -> None:
    assert cache_salt(ONE, call()) == cache_salt(Caller("account-1", "key-2"), call(endpoint="completions"))


@pytest.mark.parametrize(
    ("caller", "asked"),
    [
        (Caller("account-2", "key-1"), call()),
        (ONE, call("other")),
        (Caller("account-1chatty", "k"), call("")),
    ],
    ids=["account", "model", "same letters"],
)
def test_anything_else_has_its_own(caller: Caller, asked: Call) -> None:
    assert cache_salt(caller, asked) != cache_salt(ONE, call())


def test_salts_do_not_outlive_the_process() -> None:
    code = (
        "from appliance.domain import Call, Caller; from appliance.gateway.policy import cache_salt;"
        "print(cache_salt(Caller('account-1', 'key-1'), Call('chat', 'chatty', False, False, False)))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    assert len(other.stdout.strip()) == 43
    assert other.stdout.strip() != cache_salt(ONE, call())
