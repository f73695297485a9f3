"""Prices: what the tokens of a model cost."""

from __future__ import annotations

from typing import Annotated

from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from appliance import domain
from appliance.admin import money
from appliance.admin.contract import NAME_PATTERN, NewPrice, Price
from appliance.admin.handlers import Plane
from appliance.privacy.logs import log

ModelName = Annotated[str, PathParameter(pattern=NAME_PATTERN)]


@get("/v1/prices", sync_to_thread=True)
def list_prices(plane: NamedDependency[Plane]) -> list[Price]:
    return [_price(model, price, plane.currency) for model, price in plane.registry.prices().items()]


@put("/v1/prices/{model:str}", sync_to_thread=True)
def set_price(plane: NamedDependency[Plane], model: ModelName, data: JSONBody[NewPrice]) -> Price:
    price = domain.Price(money.to_micros(data.input_per_million), money.to_micros(data.output_per_million))
    plane.registry.set_price(model, price)
    log("price_set", model=model)
    return _price(model, price, plane.currency)


@delete("/v1/prices/{model:str}", status_code=200, sync_to_thread=True)
def clear_price(plane: NamedDependency[Plane], model: ModelName) -> Price:
    """From now on its tokens cost nothing."""
    plane.registry.clear_price(model)
    log("price_cleared", model=model)
    return _price(model, domain.Price(), plane.currency)


def _price(model: str, price: domain.Price, currency: str) -> Price:
    return Price(
        model=model,
        currency=currency,
        input_per_million=money.to_text(price.input_micros_per_million),
        output_per_million=money.to_text(price.output_micros_per_million),
    )
