"""Query parameters nobody knows are refused: a misspelt filter must not answer with everything."""

from typing import Any

from starlette.requests import HTTPConnection

from central.problems import ApiProblem


async def known_parameters(connection: HTTPConnection) -> None:
    """Refuse a query parameter that the route's description does not list, with 422."""
    if connection.scope["type"] != "http" or not connection.query_params:
        return
    known = _known(connection)
    unknown = sorted(set(connection.query_params) - known) if known is not None else []
    if unknown:
        names = ", ".join(sorted(known or ())) or "none"
        detail = f"No such parameter here: {', '.join(unknown[:5])[:200]}. There are: {names}."
        raise ApiProblem(422, "unknown_parameter", detail)


def _known(connection: HTTPConnection) -> set[str] | None:
    schema: dict[str, Any] = connection.app.openapi()
    route = connection.scope["route"]
    operation = schema["paths"].get(route.path, {}).get(connection.scope["method"].lower())
    if operation is None:
        return None
    return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
