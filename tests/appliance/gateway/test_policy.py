from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from appliance.domain import Call, Caller
from appliance.errors import BadRequest, NotAllowed, RequestError, UnknownModel
from appliance.gateway.policy import cache_salt, permit
from appliance.store.registry import KeyRecord, ModelRecord, RoutingTable

CHATTY = ModelRecord("chatty", frozenset({"chat"}), 4096, 0)
SEEING = ModelRecord(
    "seeing", frozenset({"chat", "messages"}), 4096, 0, images_max=2, switches=frozenset({"enable_thinking"})
)
ONE = Caller("account-1", "key-1")


def table(models: set[str] | None = None, endpoints: set[str] | None = None) -> RoutingTable:
    """Both models, and a key with these scopes."""
    key = KeyRecord(
        "key-1",
        "account-1",
        b"",
        None,
        models=None if models is None else frozenset(models),
        endpoints=None if endpoints is None else frozenset(endpoints),
    )
    return RoutingTable({"key-1": key}, {"chatty": CHATTY, "seeing": SEEING}, {})


CALL = Call("chat", "chatty")
PICTURES = Call("messages", "seeing", images=2)

PERMITTED: dict[str, tuple[Call, RoutingTable]] = {
    "without scopes": (CALL, table()),
    "a model in the key's scope": (CALL, table(models={"chatty"})),
    "an endpoint in the key's scope": (CALL, table(endpoints={"chat"})),
    "both in its scope": (PICTURES, table({"seeing", "chatty"}, {"messages"})),
    "a switch that the model declares": (
        CALL._replace(model="seeing", switches=("enable_thinking",)),
        table(),
    ),
}


@pytest.mark.parametrize(("call", "table"), PERMITTED.values(), ids=PERMITTED.keys())
def test_what_a_key_and_a_model_allow_is_permitted(call: Call, table: RoutingTable) -> None:
    assert permit(ONE, call, table) == table.models[call.model]


Refused = tuple[Call, RoutingTable, type[RequestError], str]
REFUSED: dict[str, Refused] = {
    "no such model": (CALL._replace(model="other"), table(), UnknownModel, "model_not_found"),
    "no name": (CALL._replace(model=""), table(), UnknownModel, "model_not_found"),
    "a model outside the key's scope": (CALL, table(models={"seeing"}), UnknownModel, "model_not_found"),
    "any model of a key that has none": (CALL, table(models=set()), UnknownModel, "model_not_found"),
    "a key that is gone by now": (
        CALL,
        RoutingTable({}, {"chatty": CHATTY}, {}),
        UnknownModel,
        "model_not_found",
    ),
    "an endpoint that the model does not serve": (
        CALL._replace(endpoint="completions"),
        table(),
        UnknownModel,
        "endpoint_not_served",
    ),
    "an endpoint outside the key's scope": (
        CALL,
        table(endpoints={"messages"}),
        NotAllowed,
        "permission_denied",
    ),
    "a picture for a model that takes none": (
        CALL._replace(images=1),
        table(),
        BadRequest,
        "unsupported_images",
    ),
    "one picture too many": (PICTURES._replace(images=3), table(), BadRequest, "unsupported_images"),
    "a switch for a model without any": (
        CALL._replace(switches=("enable_thinking",)),
        table(),
        BadRequest,
        "unsupported_switch",
    ),
    "a switch beside one that is declared": (
        PICTURES._replace(switches=("enable_thinking", "x")),
        table(),
        BadRequest,
        "unsupported_switch",
    ),
}


@pytest.mark.parametrize(("call", "table", "kind", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused(
    call: Call, table: RoutingTable, kind: type[RequestError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        permit(ONE, call, table)

    assert caught.value.reason == code


def test_a_model_out_of_reach_is_refused_in_the_words_of_one_that_is_not_there() -> None:
    with pytest.raises(UnknownModel) as out_of_reach:
        permit(ONE, CALL, table(models={"seeing"}))
    with pytest.raises(UnknownModel) as missing:
        permit(ONE, CALL._replace(model="missing"), table())

    assert str(out_of_reach.value) == str(missing.value)
    assert (out_of_reach.value.param, out_of_reach.value.reason) == (
        missing.value.param,
        missing.value.reason,
    )


def test_a_salt_has_the_letters_that_engines_take() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cache_salt(ONE, CALL))


def test_keys_of_one_account_share_a_salt() -> None:
    assert cache_salt(ONE, CALL) == cache_salt(Caller("account-1", "key-2"), Call("completions", "chatty"))


@pytest.mark.parametrize(
    ("caller", "asked"),
    [
        (Caller("account-2", "key-1"), CALL),
        (ONE, Call("chat", "other")),
        (Caller("account-1chatty", "k"), Call("chat", "")),
    ],
    ids=["account", "model", "same letters"],
)
def test_anything_else_has_its_own(caller: Caller, asked: Call) -> None:
    assert cache_salt(caller, asked) != cache_salt(ONE, CALL)


def test_salts_do_not_outlive_the_process() -> None:
    code = (
        "from appliance.domain import Call, Caller; from appliance.gateway.policy import cache_salt;"
        "print(cache_salt(Caller('account-1', 'key-1'), Call('chat', 'chatty')))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    assert len(other.stdout.strip()) == 43
    assert other.stdout.strip() != cache_salt(ONE, CALL)
