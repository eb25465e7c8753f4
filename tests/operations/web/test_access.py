"""Who is let in: tokens, cookies, a proxy's header, and what a form must carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dicom_node.config_web import ProxySettings
from dicom_node.errors import ConfigurationError
from dicom_node.operations.web.access import signing_key
from dicom_node.operations.web.tokens import Role, add_token, read_tokens
from tests.operations.web.conftest import STUDY_NAME, Site, form

PAGES = ["/", f"/studies/{STUDY_NAME}", "/rules", "/models", "/peers"]


def test_a_token_is_shown_once_and_kept_as_a_digest_in_a_file_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = add_token(path, "anna", Role.OPERATOR)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(one.name, one.role) for one in read_tokens(path)] == [("anna", Role.OPERATOR)]


def test_a_new_token_takes_the_place_of_the_former_one_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "anna", Role.OPERATOR)
    add_token(path, "bert", Role.VIEWER)
    add_token(path, "anna", Role.VIEWER)
    assert {one.name: one.role for one in read_tokens(path)} == {
        "anna": Role.VIEWER, "bert": Role.VIEWER,
    }


@pytest.mark.parametrize(
    "line", ["anna admin " + "0" * 64, "anna viewer secret", "nonsense", "a b c d"]
)
def test_a_line_that_is_none_is_told_by_its_number_and_not_repeated(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# who\n{line}\n")
    with pytest.raises(ConfigurationError) as refused:
        read_tokens(path)
    assert ":2" in str(refused.value)
    assert line not in str(refused.value)


@pytest.mark.parametrize("name", ["", "two words", "../x", "a" * 65, "né"])
def test_a_name_that_cannot_stand_in_the_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected 1 to 64"):
        add_token(tmp_path / "tokens", name, Role.VIEWER)


def test_the_signing_key_is_made_once_and_for_the_node_alone(tmp_path: Path) -> None:
    key = signing_key(tmp_path / "web.key")
    assert len(key) == 32
    assert signing_key(tmp_path / "web.key") == key
    assert (tmp_path / "web.key").stat().st_mode & 0o777 == 0o600


def test_who_has_not_signed_in_is_led_to_the_form(site: Site) -> None:
    client = site.with_tokens()
    for page in PAGES:
        answer = client.get(page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), page


def test_the_api_asks_for_a_token_and_takes_it(site: Site) -> None:
    client = site.with_tokens()
    for path in ("/api/studies", "/api/jobs", f"/api/studies/{STUDY_NAME}"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        bearer = {"authorization": f"Bearer {site.tokens['vera']}"}
        assert client.get(path, headers=bearer).status_code == 200


def test_monitors_need_no_token_on_the_loopback(site: Site) -> None:
    client = site.with_tokens()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200


def test_metrics_need_a_token_elsewhere_and_health_does_not(site: Site) -> None:
    site.with_tokens()
    client = site.client(tokens_file=site.folder / "tokens", host="10.1.2.3")
    assert client.get("/metrics").status_code == 401
    assert client.get("/healthz").status_code == 200
    bearer = {"authorization": f"Bearer {site.tokens['vera']}"}
    assert client.get("/metrics", headers=bearer).text == "# HELP x\n"


def test_the_cookie_of_a_session_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    client = site.with_tokens()
    answer = client.post("/login", data={"token": site.tokens["vera"], **form(client, "/login")})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert site.tokens["vera"] not in cookie
    assert site.told.of("web_sign_in") == [
        {"user": "vera", "address": "127.0.0.1", "succeeded": True}
    ]


def test_a_cookie_that_was_changed_is_nobodys(site: Site, viewer: TestClient) -> None:
    cookie = viewer.cookies["dicom_node_session"]
    other_end = cookie[:-1] + ("1" if cookie.endswith("0") else "0")
    for other in (cookie.replace("vera", "olaf"), other_end, cookie + "0", "x", ".", "a.é"):
        client = site.client(tokens_file=site.folder / "tokens")
        client.cookies.set("dicom_node_session", other.encode("ascii", "replace").decode())
        assert client.get("/").status_code == 303


def test_a_session_ends_with_its_line_in_the_file(site: Site, viewer: TestClient) -> None:
    assert viewer.get("/").status_code == 200
    (site.folder / "tokens").write_text("")
    assert viewer.get("/").status_code == 303


def test_nobody_is_let_in_by_a_file_that_cannot_be_read(site: Site, viewer: TestClient) -> None:
    (site.folder / "tokens").write_text("nonsense")
    assert viewer.get("/").status_code == 303


def test_signing_out_ends_the_session(viewer: TestClient) -> None:
    assert viewer.post("/logout", data=form(viewer, "/")).status_code == 303
    assert viewer.get("/").status_code == 303


def test_guessing_is_slowed_down_by_address(site: Site) -> None:
    client = site.with_tokens()
    fields = form(client, "/login")
    answers = [client.post("/login", data={"token": f"no{n}", **fields}) for n in range(6)]
    assert [one.status_code for one in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    bearer = {"authorization": "Bearer no"}
    assert client.get("/api/studies", headers=bearer).status_code == 429
    assert len(site.told.of("web_sign_in")) == 5, "no more of them fill the audit trail"


def test_who_has_a_token_is_let_in_whatever_others_of_the_same_address_try(site: Site) -> None:
    client = site.with_tokens()
    fields = form(client, "/login")
    wrong = {"authorization": "Bearer no"}
    for _ in range(6):
        refused = client.get("/api/studies", headers=wrong)
    assert refused.status_code == 429
    right = {"authorization": f"Bearer {site.tokens['vera']}"}
    assert client.get("/api/studies", headers=right).status_code == 200
    assert client.get("/api/studies", headers=wrong).status_code == 429, "nothing is forgotten"
    signed_in = client.post("/login", data={"token": site.tokens["vera"], **fields})
    assert signed_in.status_code == 303


def test_a_token_that_is_none_is_told_with_its_address(site: Site) -> None:
    client = site.with_tokens()
    bearer = {"authorization": "Bearer no"}
    assert client.get("/api/studies", headers=bearer).status_code == 401
    assert client.post("/login", data={"token": "no", **form(client, "/login")}).status_code == 401
    assert site.told.of("web_sign_in") == [
        {"user": "", "address": "127.0.0.1", "succeeded": False}
    ] * 2


@pytest.mark.parametrize("token", ["", "wrong", None])
def test_a_form_of_another_site_is_refused(site: Site, token: str | None) -> None:
    client = site.signed_in("olaf")
    fields = {} if token is None else {"form_token": token}
    answer = client.post("/peers/pacs", data={"what": "echo", **fields})
    assert answer.status_code == 403
    assert site.told.of("web_action") == []


def test_the_form_of_one_browser_is_not_that_of_another(site: Site) -> None:
    first, second = site.signed_in("olaf"), site.signed_in("olaf")
    answer = second.post("/logout", data=form(first, "/"))
    assert answer.status_code == 403


def proxied(site: Site, address: str) -> TestClient:
    networks = ["10.9.0.0/16"]
    proxy = ProxySettings.model_construct(
        user_header="X-Remote-User", networks=networks, operators=["anna"]
    )
    return site.client(address, proxy=proxy, host="10.9.0.1")


def test_a_proxy_names_the_user_and_others_cannot(site: Site) -> None:
    named = {"x-remote-user": "anna"}
    assert "anna" in proxied(site, "10.9.0.5").get("/", headers=named).text
    assert proxied(site, "10.8.0.5").get("/", headers=named).status_code == 401
    assert proxied(site, "10.9.0.5").get("/").status_code == 401


def test_two_names_of_a_proxy_are_none(site: Site) -> None:
    headers = [("x-remote-user", "anna"), ("x-remote-user", "bert")]
    assert proxied(site, "10.9.0.5").get("/", headers=headers).status_code == 401


def test_only_whom_the_settings_name_acts_behind_a_proxy(site: Site) -> None:
    for name, status in (("anna", 200), ("bert", 403)):
        client = proxied(site, "10.9.0.5")
        client.headers["x-remote-user"] = name
        fields = {"what": "probe", **form(client, "/rules")}
        assert client.post("/peers/pacs", data=fields).status_code == status


def test_a_name_of_the_world_does_not_reach_a_node_without_authentication(site: Site) -> None:
    client = site.client()
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    for host in ("localhost:8042", "127.0.0.1", "[::1]:8042"):
        assert client.get("/", headers={"host": host}).status_code == 200
