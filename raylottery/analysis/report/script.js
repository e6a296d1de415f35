"use strict";

/* Dark or light, as the reader's system has it until the button says otherwise. */
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const showTheme = () => theme.setAttribute("aria-pressed", dark());
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  showTheme();
});
system.addEventListener("change", showTheme);
showTheme();
theme.hidden = false;

/* Sorting: a number by its data-value, or by its text; rows without one stay last. */
function key(row, column, kind) {
  const cell = row.cells[column];
  if (kind === "text") return cell.textContent.trim();
  const text = cell.dataset.value ?? cell.textContent;
  return text.trim() === "" ? NaN : Number(text);
}
function compareKeys(a, b, kind) {
  if (kind === "text") return a.localeCompare(b, "en", { numeric: true });
  return a - b;
}
for (const button of document.querySelectorAll("[data-sort]")) {
  const head = button.closest("th");
  const body = head.closest("table").tBodies[0];
  button.addEventListener("click", () => {
    const kind = button.dataset.sort;
    const first = kind === "number" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const th of head.parentElement.cells) th.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [key(row, head.cellIndex, kind), row]);
    rows.sort(([a], [b]) => {
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * compareKeys(a, b, kind);
    });
    body.append(...rows.map(([, row]) => row));
  });
}

/* Filters: every word must occur in a row or in the summary of a lineage. */
for (const filter of document.querySelectorAll("[data-filter]")) {
  const target = document.getElementById(filter.dataset.filter);
  const rows = target.tBodies ? [...target.tBodies[0].rows] : [...target.querySelectorAll("details")];
  const texts = rows.map((row) => (row.querySelector("summary") ?? row).textContent.toLowerCase());
  const status = filter.querySelector("[role=status]");
  const input = filter.querySelector("input");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    status.textContent = `${shown} of ${rows.length} shown`;
  };
  input.addEventListener("input", apply);
  apply();
  filter.hidden = false;
}

/* Arms come and go in all figures at once. */
const away = new Set();
for (const box of document.querySelectorAll("[data-toggle]")) {
  box.addEventListener("change", () => {
    const arms = new Set(box.dataset.toggle.split(" "));
    for (const arm of arms) {
      if (box.checked) away.delete(arm);
      else away.add(arm);
    }
    for (const drawn of document.querySelectorAll("[data-arm]")) {
      if (arms.has(drawn.dataset.arm)) drawn.classList.toggle("off", !box.checked);
    }
  });
  box.closest("fieldset").hidden = false;
}

/* Values: the nearest point under the pointer, or one after the other by the arrow keys. */
for (const plot of document.querySelectorAll(".plot")) {
  const data = plot.querySelector("script");
  if (!data) continue;
  const points = JSON.parse(data.textContent);
  const svg = plot.querySelector("svg");
  const value = plot.querySelector(".value");
  const ring = document.createElementNS(svg.namespaceURI, "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 5);
  let at = null;

  const visible = () => points.filter((point) => !away.has(point.arm));
  const leave = () => {
    at = null;
    ring.remove();
    value.hidden = true;
  };
  const show = (point) => {
    at = point;
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    svg.append(ring);
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    value.hidden = false;
    value.textContent = point.text;
    const half = value.offsetWidth / 2;
    const x = Math.min(Math.max(point.x * scale, half), svg.getBoundingClientRect().width - half);
    value.style.left = `${x}px`;
    value.style.top = `${Math.max(point.y * scale, value.offsetHeight + 12)}px`;
  };
  plot.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let near = null;
    let least = 14;
    for (const point of visible()) {
      const distance = Math.hypot(point.x - place.x, point.y - place.y);
      if (distance < least) [near, least] = [point, distance];
    }
    if (near) show(near);
    else leave();
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return leave();
    const shown = visible();
    if (!shown.length) return;
    const here = shown.indexOf(at);
    if (event.key === "ArrowRight") show(shown[(here + 1) % shown.length]);
    else if (event.key === "ArrowLeft") show(shown[(Math.max(here, 0) + shown.length - 1) % shown.length]);
    else return;
    event.preventDefault();
  });
}
