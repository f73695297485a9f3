"""Accounts: who keys and usage belong to. An account of an application needs no person."""

from __future__ import annotations

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from appliance.admin.contract import Account, NewAccount
from appliance.admin.handlers import Plane
from appliance.privacy.logs import log
from appliance.store.registry import AccountRow


@get("/v1/accounts", sync_to_thread=True)
def list_accounts(plane: NamedDependency[Plane]) -> list[Account]:
    return [_account(row) for row in plane.registry.accounts()]


@post("/v1/accounts", sync_to_thread=True)
def create_account(plane: NamedDependency[Plane], data: JSONBody[NewAccount]) -> Account:
    row = plane.registry.add_account(data.name)
    log("account_created", account=row.id.lower())
    return _account(row)


def _account(row: AccountRow) -> Account:
    return Account(
        id=row.id,
        name=row.slug,
        state=row.state,
        created_at_ms=row.created_at_ms,
        usable_keys=row.usable_keys,
    )
