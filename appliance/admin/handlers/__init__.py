"""Control's endpoints, one file per noun, and what they all work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.admin.reconcile import Reconciler
from appliance.catalog import Catalog
from appliance.store.registry import Registry
from appliance.store.usage import UsageReader


@dataclass(frozen=True, slots=True)
class Plane:
    """Built once, by the server."""

    catalog: Catalog
    registry: Registry
    usage: UsageReader
    reconciler: Reconciler
    gateway_socket: Path
    zone: ZoneInfo
    currency: str
