"""The web page in a real browser, over a real node with real results: what an operator does there.

Receiving, sending and the page are one process, the models another that starts late: so there is
time to hold, release and cancel a job, and the page has to find out by itself what the other did.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from dicom_node.events import hash_uid
from tests import peers
from tests.acceptance import series
from tests.acceptance.running_node import PATIENCE_S, RunningNode, wait_until
from tests.acceptance.test_drafted_impression import HalfLiar
from tests.ai_models.drafting.writers import writer_folder
from tests.databases import NodeDatabase

pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long_on_postgresql,
]
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
LARGEST_FIRST_LOAD_BYTES = 200_000
NAME, PATIENT_ID = "PLANTED^PATIENT", "PLANTED-ID-4711"
BARRIERS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => [one.id, one.nodes.map((node) => [node.html, node.failureSummary])])"""
WIDER_THAN_THE_SCREEN = "() => document.scrollingElement.scrollWidth - innerWidth"


@dataclass
class Hospital:
    """A node, an archive, two studies, and a browser in which somebody has signed in."""

    node: RunningNode
    address: str
    token: str
    chest: series.Sent
    head: series.Sent
    screen: BrowserContext
    pictures: Path
    seen: dict[str, list[Any]] = field(default_factory=dict)

    def page(self, path: str = "/") -> Page:
        page = self.screen.new_page()
        page.goto(self.address + path)
        return page

    def study(self, sent: series.Sent) -> str:
        return f"/studies/{hash_uid(sent.study_instance_uid)}"

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.address + path)
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def look(self, page: Page, name: str) -> None:
        """Look for barriers in light, in dark, and on a narrow screen; keep a picture of each."""
        axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
        for mode, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280),
                                    ("narrow", "light", 390)):  # fmt: skip
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": 844})
            page.evaluate(axe)
            self.seen[f"{name} {mode}"] = page.evaluate(BARRIERS)
            if page.evaluate(WIDER_THAN_THE_SCREEN) > 0:
                self.seen[f"{name} {mode}"].append("wider than the screen")
            page.screenshot(path=self.pictures / f"{name}-{mode}.png", full_page=True)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.set_viewport_size({"width": 1280, "height": 844})


def planted(sent: series.Sent, body_part: str) -> series.Sent:
    for path in sent.paths:
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = NAME, PATIENT_ID
        dataset.BodyPartExamined = body_part
        dataset.save_as(path)
    return sent


@pytest.fixture(scope="module")
def hospital(
    tmp_path_factory: pytest.TempPathFactory, node_database: NodeDatabase
) -> Iterator[Hospital]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed: tests/install_tools.sh")
    folder = tmp_path_factory.mktemp("hospital")
    with peers.DcmtkStorescp(folder, options=("+xa", "-pm")) as archive, HalfLiar() as host:
        node = RunningNode(
            folder / "node", archive.peer, "intake,deliver,web", database=node_database()
        )
        port = peers.free_port()
        document = yaml.safe_load(node.config.read_text())
        document["web"] = {"port": port, "tokens_file": str(folder / "tokens")}
        document["models"]["endpoints"] = {"language": {"url": host.url}}
        document["results"] = {"impression": str(writer_folder(folder / "writer"))}
        document["rules"] = [{"name": "lungs on chest CT", "model": "lungs-ct",
                              "when": {"Modality": "CT", "BodyPartExamined": ["CHEST"]},
                              "send_to": ["pacs"]}]  # fmt: skip
        node.config.write_text(yaml.safe_dump(document))
        made = node.command("web-token", "olaf", "--role", "operator")
        assert made.returncode == 0, made.stderr
        chest = planted(series.thin_phantom(folder / "chest", seed=71), "CHEST")
        head = planted(series.thin_phantom(folder / "head", seed=72), "HEAD")
        with node, sync_playwright() as playwright:
            screen = playwright.chromium.launch_persistent_context(
                str(folder / "browser"), executable_path=chromium, headless=True, args=[*FLAGS],
                accept_downloads=True,
            )
            try:
                yield Hospital(node, f"http://127.0.0.1:{port}", made.stdout.strip(), chest, head,
                               screen, tmp_path_factory.mktemp("screenshots"))
            finally:
                screen.close()


def sign_in(hospital: Hospital) -> None:
    """The form, with a wrong token first; counts what the first page loads."""
    page = hospital.page()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    hospital.look(page, "sign-in")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not a token of this node.")
    page.get_by_label("Token").fill(hospital.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Studies")).to_be_visible()
    page.close()


def loaded_bytes(hospital: Hospital) -> int:
    """How much comes over the line when somebody opens the list for the first time."""
    page = hospital.screen.new_page()
    link = page.context.new_cdp_session(page)
    link.send("Network.enable")
    link.send("Network.clearBrowserCache")
    sizes: list[float] = []
    link.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(hospital.address, wait_until="networkidle")
    page.close()
    assert len(sizes) >= 3, "page, style sheet and script at least"
    return int(sum(sizes))


def decide(hospital: Hospital, page: Page, action: str, then: str) -> None:
    """One action with its confirmation; the page of the study says how it stands then."""
    page.get_by_role("link", name=action).first.click()
    expect(page.get_by_role("heading", name=f"{action}:")).to_be_visible()
    if action == "Hold":
        hospital.look(page, "confirm")
    page.get_by_role("button", name=action).click()
    expect(page.locator("article .stage").first).to_contain_text(then)


def test_an_operator_looks_after_two_studies(hospital: Hospital) -> None:
    node, chest, head = hospital.node, hospital.chest, hospital.head
    sign_in(hospital)
    watched = hospital.page()
    expect(watched.get_by_text("Nothing has been received yet.")).to_be_visible()
    node.send(chest.paths)
    node.send(head.paths)
    # Nobody loads the page again.
    expect(watched.locator("tbody tr")).to_have_count(2, timeout=60_000)
    expect(watched.locator(".stage.no-rule")).to_be_visible(timeout=60_000)
    expect(watched.locator(".stage.waiting")).to_be_visible(timeout=60_000)
    first_load_bytes = loaded_bytes(hospital)
    print(f"first load: {first_load_bytes} bytes")
    assert first_load_bytes < LARGEST_FIRST_LOAD_BYTES
    hospital.look(watched, "studies")

    page = hospital.page(hospital.study(chest))
    for action, then in (("Hold", "held"), ("Release", "waiting"), ("Cancel", "cancelled"),
                         ("Retry", "waiting")):  # fmt: skip
        decide(hospital, page, action, then)
    page.evaluate("() => { window.sameAsBefore = true; }")
    node.start_beside("work")
    expect(page.locator("article .stage.delivered")).to_be_visible(timeout=PATIENCE_S * 1000)
    assert page.evaluate("() => window.sameAsBefore"), "the page changed without a reload"
    look_at_results(hospital, page)

    find_out_why_there_is_none(hospital)
    ask_about_peers_and_models(hospital)
    assert {name: found for name, found in hospital.seen.items() if found} == {}
    log = node.log_text()
    for uid in (chest.study_instance_uid, chest.series_instance_uid, head.series_instance_uid):
        assert uid not in log
    assert "PLANTED" not in log
    told = [line for line in log.splitlines() if "web page" in line]
    for action in ("hold", "release", "cancel", "retry", "route by hand", "echo peer",
                   "probe peer", "replay rules", "view study", "download segmentation"):
        assert any(f"user=olaf action={action} of=" in line for line in told), action


def look_at_results(hospital: Hospital, page: Page) -> None:
    """Pictures with their slider and layers, the measurements, and an object to take away."""
    viewer = page.locator(".viewer")
    expect(viewer).to_be_visible(timeout=60_000)
    expect(page.get_by_role("cell", name="not found")).to_have_count(0)
    expect(page.locator("article table th", has_text="lung")).to_have_count(2)
    expect(viewer.locator(".side.left")).to_have_text("R")
    expect(viewer.locator(".side.above")).to_have_text("A")
    image = viewer.locator("img.image")
    before = image.get_attribute("src")
    viewer.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(image).not_to_have_attribute("src", before or "")
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("(image) => image.naturalWidth") > 0
    layers = viewer.locator("img.layer")
    expect(layers).to_have_count(2)
    viewer.get_by_role("checkbox").first.uncheck()
    expect(layers.first).to_be_hidden()
    expect(layers.last).to_be_visible()
    viewer.get_by_role("checkbox").first.check()
    expect(layers.first).to_be_visible()
    page.get_by_text("Objects to download").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="segmentation").first.click()
    name = started.value.suggested_filename
    assert name.endswith("-segmentation.dcm")
    assert "PLANTED" not in name
    assert pydicom.dcmread(started.value.path()).Modality == "SEG"
    look_at_draft(page)
    hospital.look(page, "study")


def look_at_draft(page: Page) -> None:
    """The impression beside its evidence, and what was struck of it."""
    draft = page.locator("table.draft")
    expect(page.get_by_text("AI draft, not reviewed")).to_be_visible()
    row = draft.get_by_role("row").filter(has_text="the writer")
    expect(row).to_have_count(1)
    words = re.compile(r"lung has a volume of .* ml\..*E\d+ .* lung: Volume .* ml", re.DOTALL)
    expect(row).to_contain_text(words)
    page.get_by_text("Struck sentences of the writer (1)").click()
    expect(page.locator("s")).to_contain_text("lung has a volume of")
    expect(page.get_by_text("The evidence does not say this.")).to_be_visible()


def find_out_why_there_is_none(hospital: Hospital) -> None:
    """The study that no rule took: why, what other rules would do, and by hand."""
    page = hospital.page(hospital.study(hospital.head))
    expect(page.get_by_text("BodyPartExamined is to be CHEST and is HEAD")).to_be_visible()
    hospital.look(page, "study-without-result")
    page.get_by_role("link", name="What the rules say").click()
    expect(page.get_by_text("does not match")).to_be_visible()
    rules = page.get_by_label("Rules (YAML)")
    rules.fill(re.sub(r"( +)- CHEST", r"\1- CHEST\n\1- HEAD", rules.input_value()))
    page.get_by_role("button", name="Replay").click()
    row = page.locator("section[aria-labelledby=replay] tbody tr")
    expect(row).to_contain_text(hash_uid(hospital.head.series_instance_uid))
    hospital.look(page, "rules")
    page.goto(hospital.address + hospital.study(hospital.head))
    page.get_by_role("link", name="Route by hand").click()
    expect(page.get_by_role("heading", name="by hand")).to_be_visible()
    hospital.look(page, "route")
    page.get_by_role("button", name="Run lungs-ct").click()
    expect(page.locator("article .stage.delivered")).to_be_visible(timeout=PATIENCE_S * 1000)
    page.goto(hospital.address)
    page.get_by_label("Patient ID").fill(PATIENT_ID)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    assert PATIENT_ID not in page.url
    page.goto(hospital.address)
    page.get_by_label("State").select_option("delivered")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    hospital.look(page, "studies-delivered")


def ask_about_peers_and_models(hospital: Hospital) -> None:
    page = hospital.page("/peers")
    page.get_by_role("button", name="Echo pacs").click()
    expect(page.get_by_role("status")).to_contain_text("pacs answered in")
    page.get_by_role("button", name="Echo scanner").click()
    expect(page.get_by_role("status")).to_contain_text("scanner did not answer")
    page.get_by_role("button", name="What it takes (pacs)").click()
    expect(page.get_by_role("status")).to_contain_text("pacs was asked what it takes")
    hospital.look(page, "peers")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("rowheader", name="lungs-ct")).to_be_visible()
    hospital.look(page, "models")


def test_the_page_works_without_scripts_and_the_api_agrees(hospital: Hospital) -> None:
    found = hospital.get("/api/jobs")["jobs"]
    assert {job["state"] for job in found} == {"succeeded"}
    assert hospital.get("/healthz")["ok"] is True
    wait_until(lambda: hospital.get("/readyz")["ok"], "the node is ready")
    (job,) = [one for one in found if one["series_instance_uid"] ==
              hospital.chest.series_instance_uid]  # fmt: skip
    page = hospital.screen.new_page()
    page.context.new_cdp_session(page).send(
        "Emulation.setScriptExecutionDisabled", {"value": True}
    )
    page.goto(hospital.address + hospital.study(hospital.chest))
    page.get_by_role("link", name=f"Pictures of job {job['job_id']}").click()
    expect(page.get_by_role("img", name="Slice")).to_be_visible()
    page.get_by_role("slider").fill("3")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("img", name="Slice 3 of 24")).to_be_visible()
    page.goto(hospital.address)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(hospital.address + hospital.study(hospital.chest))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
