"""Signing in, the page and its policy, and that no route is open by forgetting."""

import base64
import hashlib
import re
from dataclasses import replace
from importlib.resources import files

import httpx2
import pytest
from fastapi import APIRouter
from starlette.routing import Route

from central.access import POLICIES, declared
from central.application.page import content_policy
from central.modules import MODULES
from central.storage.catalogue import find_project, issue_login
from central.web import human_app, refuse_undeclared
from shared.metrics import new_registry
from tests.servers.central_process import Central

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

OPEN = {"/", "/favicon.ico", "/healthz", "/readyz", "/metrics", "/login", "/logout"}


async def token(central: Central) -> str:
    project = await find_project(central.database.service, "demo")
    assert project is not None
    return await issue_login(central.database.service, project.project_id)


async def test_a_login_link_works_once_and_opens_the_project(central: Central) -> None:
    link = f"/login?token={await token(central)}"
    async with httpx2.AsyncClient(base_url=central.url) as client:
        first = await client.get(link)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        session = await client.get("/api/v1/session")
        assert (session.json()["project"], session.json()["by"]) == ("demo", "session")
        assert (await client.get("/api/v1/projects/demo/latest")).status_code == 200
    async with httpx2.AsyncClient(base_url=central.url) as client:
        again = await client.get(link)
        assert (again.status_code, again.json()["code"]) == (403, "login_spent")


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_a_spent_link_leads_who_is_signed_in_to_the_page(central: Central) -> None:
    link = f"/login?token={await token(central)}"
    async with httpx2.AsyncClient(base_url=central.url, headers=BROWSER) as client:
        assert (await client.get(link)).status_code == 303
        again = await client.get(link)
        assert (again.status_code, again.headers["location"]) == (303, "/")
        assert "set-cookie" not in again.headers
        assert (await client.get("/api/v1/session")).status_code == 200
        await client.post("/logout")
        assert (await client.get(link)).status_code == 403
    async with central.client() as program:  # a key is no session: the program is told
        assert (await program.get(central.url + link)).json()["code"] == "login_spent"


async def test_a_spent_link_tells_people_on_a_page_how_to_get_a_new_one(central: Central) -> None:
    link = f"/login?token={await token(central)}"
    async with httpx2.AsyncClient(base_url=central.url) as client:
        assert (await client.get(link)).status_code == 303
    for spent in (link, "/login?token=never-was"):
        async with httpx2.AsyncClient(base_url=central.url, headers=BROWSER) as client:
            answer = await client.get(spent, headers={"Cookie": "spine_session=wrong"})
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
        assert "make demo" in answer.text
        assert "python -m central login" in answer.text
        policy = answer.headers["content-security-policy"]
        [style] = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "script-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script" not in answer.text
        assert "style=" not in answer.text
        assert "//" not in answer.text


async def test_signing_out_ends_the_session(central: Central) -> None:
    async with httpx2.AsyncClient(base_url=central.url) as client:
        answer = await client.get(f"/login?token={await token(central)}")
        secret = answer.cookies["spine_session"]
        foreign = await client.post("/logout", headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert (await client.get("/api/v1/session")).status_code == 200
        assert (await client.post("/logout", headers={"Origin": central.url})).status_code == 204
    async with httpx2.AsyncClient(base_url=central.url) as client:
        stolen = await client.get("/api/v1/session", headers={"Cookie": f"spine_session={secret}"})
        assert stolen.status_code == 401


async def test_projects_and_sites_of_the_key_are_listed(central: Central) -> None:
    async with central.client() as client:
        projects = (await client.get(f"{central.url}/api/v1/projects")).json()
        sites = (await client.get("/sites")).json()
    assert projects == {"projects": [{"slug": "demo", "name": "demo"}]}
    assert sites == {"sites": [{"name": "main", "time_zone": "UTC"}]}


async def test_a_foreign_host_name_is_refused(central: Central) -> None:
    async with httpx2.AsyncClient(base_url=central.url) as client:
        answer = await client.get("/", headers={"Host": "rebound.example"})
        assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")
        assert (await client.get("/", headers={"Host": "localhost:1"})).status_code == 200


async def test_the_page_allows_its_own_blocks_and_nothing_else(central: Central) -> None:
    async with httpx2.AsyncClient(base_url=central.url) as client:
        page = await client.get("/")
        api = await client.get("/api/v1/session")
    policy = page.headers["content-security-policy"]
    html = page.text
    for name in ("script", "style"):
        [block] = re.findall(f"<{name}>(.*?)</{name}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    for answer in (page, api):
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert api.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = (files("central.application") / "ui" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    assert set(re.findall(r"https?://[^\s'\"]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "style=" not in html
    assert "'unsafe" not in content_policy(html)


async def test_every_route_declares_a_policy_and_only_named_ones_are_open(
    central: Central,
) -> None:
    platform = replace(central.running.platform, registry=new_registry())
    routes = [
        route
        for name in ("egress", "application")
        for router in MODULES[name](platform).routers
        for route in declared(router)
    ]
    assert len(routes) >= 12
    assert {route.policy for route in routes} == set(POLICIES.values())
    assert {route.path for route in routes if route.policy == "open_to_all"} <= OPEN
    assert all(route.policy == "project_reader" for route in routes if "{project}" in route.path)


async def test_a_route_without_a_policy_is_refused(central: Central) -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> str:
        return "open by forgetting"

    with pytest.raises(ValueError, match="/forgotten"):
        human_app(central.database.service, ("localhost",), [router])
    bare = APIRouter(routes=[Route("/plain", endpoint=lambda _request: None)])
    with pytest.raises(ValueError, match="/plain"):
        refuse_undeclared(declared(bare))


async def test_every_guarded_route_refuses_without_and_with_a_foreign_key(
    central: Central,
) -> None:
    from central import admin  # noqa: PLC0415  # one test makes a second project

    await admin.setup(central.settings, "other", "main")
    foreign = {"Authorization": f"Bearer {await central.key('other')}"}
    async with httpx2.AsyncClient(base_url=central.url) as client:
        paths = (await client.get("/api/openapi.json")).json()["paths"]
        guarded = [path for path in paths if path not in OPEN]
        assert len(guarded) >= 8
        for path in guarded:
            url = path.replace("{project}", "demo")
            wrong = {"Authorization": "Bearer spine_aaaaaaaa_" + "a" * 52}
            assert (await client.get(url)).status_code == 401
            assert (await client.get(url, headers=wrong)).status_code == 401
            if "{project}" in path:
                query = "?key=a/x" if path.endswith("/history") else ""
                assert (await client.get(url + query, headers=foreign)).status_code == 403


async def test_health_and_metrics_are_told(central: Central) -> None:
    async with httpx2.AsyncClient(base_url=central.url) as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        ready = (await client.get("/readyz")).json()
        metrics = (await client.get("/metrics")).text
        lost = await client.get("/api/v1/nothing")
        wrong = await client.post("/api/v1/session")
    assert ready["ready"] is True
    assert set(ready["dependencies"]) >= {"database", "log", "link"}
    for name in ("spine_ingress_sessions", "spine_writer_", "spine_egress_", "process_cpu"):
        assert name in metrics
    assert (lost.status_code, wrong.status_code) == (404, 405)
    assert "GET" in wrong.headers["allow"]
    for answer in (lost, wrong):
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_parameter_nobody_knows_is_refused_and_those_there_are_named(
    central: Central,
) -> None:
    async with central.client() as client:
        for route in ("latest", "history", "points", "gaps", "gateways"):
            answer = await client.get(f"/{route}", params={"keys": "meter1/power"})
            assert answer.status_code == 422, route
            assert answer.headers["content-type"] == "application/problem+json"
        answer = await client.get("/latest", params={"keys": "meter1/power"})
        assert answer.json()["code"] == "unknown_parameter"
        assert "keys" in answer.json()["detail"]
        assert "prefix" in answer.json()["detail"]


async def test_the_api_describes_itself_in_openapi_3_1(central: Central) -> None:
    async with httpx2.AsyncClient(base_url=central.url) as client:
        schema = (await client.get("/api/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    history = schema["paths"]["/api/v1/projects/{project}/history"]["get"]
    assert history["security"] == [{"key": []}, {"session": []}]
    assert "security" not in schema["paths"]["/healthz"]["get"]
    assert "Problem" in schema["components"]["schemas"]
