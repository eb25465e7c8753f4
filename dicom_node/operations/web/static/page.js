// What the page does beyond its links and forms: it looks again by itself, takes pictures in, and
// moves the slider without a new page. Without this file everything still works, by loading again.
"use strict";
document.documentElement.classList.add("scripted");

const EVERY_MS = 3000;
const live = document.getElementById("live");
const updated = document.getElementById("updated");
let looks = false;

/** The same place in what has taken the place of a part: by its address, its name or its id. */
function twin(part, element) {
  if (element.id) return document.getElementById(element.id);
  const address = element.getAttribute("href");
  if (address) return part.querySelector(`a[href="${CSS.escape(address)}"]`);
  return part.querySelector(element.tagName.toLowerCase());
}

function replacePart(part, fresh) {
  const held = document.activeElement;
  const inside = part.contains(held) ? held : null;
  for (const open of part.querySelectorAll("details[open][id]")) {
    fresh.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
  }
  if (part.outerHTML === fresh.outerHTML) return;
  part.replaceWith(fresh);
  if (inside) (twin(fresh, inside) ?? document.getElementById("main")).focus({preventScroll: true});
}

async function look() {
  if (!live?.checked || document.hidden || looks) return;
  looks = true;
  try {
    const address = new URL(location.href);
    address.searchParams.set("fragment", "1");
    const answer = await fetch(address, {redirect: "manual", headers: {accept: "text/html"}});
    if (answer.type === "opaqueredirect") {
      // Signed out meanwhile: the form says so better than a line here.
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(answer.status);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = [...found.querySelectorAll("[data-live]")];
    if (fresh.some((part) => !document.getElementById(part.id))) {
      // Something that was not there: a series or a job.
      location.reload();
      return;
    }
    for (const part of fresh) replacePart(document.getElementById(part.id), part);
    takePicturesIn();
    updated.textContent = `as of ${new Date().toLocaleTimeString([], {hour12: false})}`;
  } catch {
    updated.textContent = "The node does not answer; trying again.";
  } finally {
    looks = false;
  }
}

/** Take the pictures that a link leads to into the page itself, each once. */
function takePicturesIn() {
  for (const link of document.querySelectorAll("a[data-viewer]")) {
    const place = document.getElementById(link.dataset.viewer);
    if (!place) continue;
    link.parentElement.hidden = true;
    if (place.dataset.begun) continue;
    place.dataset.begun = "yes";
    const said = document.createElement("p");
    said.setAttribute("role", "status");
    said.textContent = "The pictures are being drawn…";
    place.append(said);
    fetch(`${link.getAttribute("href")}?fragment=1`, {redirect: "error"})
      .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
      .then((text) => {
        const found = new DOMParser().parseFromString(text, "text/html");
        place.replaceChildren(...found.body.childNodes);
        for (const viewer of place.querySelectorAll(".viewer")) moveSlices(viewer);
      })
      .catch(() => {
        said.textContent = "The pictures could not be had. ";
        const again = document.createElement("a");
        again.href = link.getAttribute("href");
        again.textContent = "Open them in a page of their own";
        said.append(again);
      });
  }
}

function moveSlices(viewer) {
  const slider = viewer.querySelector("input[type=range]");
  if (!slider) return;
  const below = viewer.dataset.below;
  const image = viewer.querySelector("img.image");
  const rest = image.alt.replace(/^Slice \d+/, "");
  let waiting = false;
  const draw = () => {
    waiting = false;
    const number = slider.value;
    image.src = `${below}${number}.png`;
    image.alt = `Slice ${number}${rest}`;
    for (const layer of viewer.querySelectorAll("img.layer")) {
      layer.src = `${below}${number}/${layer.dataset.layer}.png`;
    }
  };
  slider.addEventListener("input", () => {
    viewer.querySelector("output").textContent = slider.value;
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  });
}

for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    const busy = event.submitter?.dataset.busy;
    if (busy) event.submitter.textContent = busy;
  });
}
for (const viewer of document.querySelectorAll(".viewer")) moveSlices(viewer);
takePicturesIn();
if (live) setInterval(look, EVERY_MS);
