
behave();

/* The strip: how the sweep stands, in the words of the server. */
const strip = document.querySelector(".now");
function put(selector, words) {
  const one = strip.querySelector(selector);
  if (one.textContent !== words) one.textContent = words; // else it would be read out again
}
let lately = "";
function lines(said) {
  if (JSON.stringify(said) === lately) return; // a reader may have selected one
  lately = JSON.stringify(said);
  const items = said.map(([kind, words]) => {
    const item = document.createElement("li");
    item.dataset.kind = kind;
    words.split("`").forEach((words, i) => { // commands stand between backticks
      const code = i % 2 ? document.createElement("code") : document.createTextNode("");
      code.textContent = words;
      item.append(code);
    });
    return item;
  });
  strip.querySelector("ul").replaceChildren(...items);
}
function tell(state) {
  strip.dataset.kind = state.kind;
  put("b", state.word);
  put(".done", state.rounds);
  put(".left", state.left);
  if (state.at) {
    put("time", `looked at ${new Date(state.at).toLocaleTimeString("en-GB")}`);
    strip.querySelector("time").dateTime = state.at;
  }
  const bar = strip.querySelector("progress");
  bar.max = Math.max(state.planned, 1);
  bar.value = state.done;
  const waits = ["note", "There are new results. They show when nothing is selected or pointed at."];
  lines(held ? [...state.lines, waits] : state.lines);
}
function lose() {
  strip.dataset.kind = "lost";
  put("b", "Nobody answers");
  put(".left", "");
  lines([["wrong", "`raylottery status --serve` was ended, or cannot be reached. Start it again: this page goes on then."]]);
}

/* What a reader did to the report is done again to the one that takes its place. */
const TOUCHED = "h1, h2, h3, button, input, details, summary, .plot, .scroll";
function named(one) {
  const place = one.closest("[aria-label], [aria-labelledby]");
  return [
    one.localName,
    place?.getAttribute("aria-label") ?? place?.getAttribute("aria-labelledby"),
    one.closest("[data-filter]")?.dataset.filter,
    one.closest("details")?.querySelector(":scope > p code")?.textContent,
    one.dataset.toggle ?? (/^(h2|h3|button)$/.test(one.localName) ? one.textContent : ""),
  ].join("\n");
}
const touched = () => [...document.querySelectorAll("header, main")].flatMap((part) => [...part.querySelectorAll(TOUCHED)]);
function remembered() {
  const was = new Map();
  let above = null;
  for (const one of touched()) {
    const top = one.getBoundingClientRect().top;
    was.set(named(one), {
      top,
      left: one.scrollLeft,
      open: one.open,
      checked: one.checked,
      value: one.value,
      order: one.closest("th")?.getAttribute("aria-sort"),
      focused: one === document.activeElement,
    });
    if (/^(h\d|summary)$/.test(one.localName) && one.checkVisibility() && top <= 0) above = named(one);
  }
  return { was, above };
}
function again({ was, above }) {
  let anchor = null;
  for (const one of touched()) {
    const before = was.get(named(one));
    if (!before) continue;
    if (one.type === "checkbox" && !before.checked) one.click();
    if (one.type === "search" && before.value) {
      one.value = before.value;
      one.dispatchEvent(new Event("input"));
    }
    if (one.localName === "details") one.open = before.open;
    const head = one.closest("th");
    for (let turn = 0; before.order && head.getAttribute("aria-sort") !== before.order && turn < 2; turn++) one.click();
    one.scrollLeft = before.left;
    if (before.focused) one.focus({ preventScroll: true });
    if (named(one) === above) anchor = [one, before.top];
  }
  if (anchor) scrollBy({ top: anchor[0].getBoundingClientRect().top - anchor[1], behavior: "instant" });
}

/* The report: another is asked for by its version, and waits while the reader is at something. */
let version = strip.dataset.version;
let renewing = false;
let held = false;
async function renew() {
  if (renewing) return;
  renewing = true;
  try {
    const answer = await fetch("/", { headers: { "If-None-Match": `"${version}"` }, cache: "no-store" });
    held = false;
    if (answer.status !== 200) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    held = !getSelection().isCollapsed || document.querySelector(".value:not([hidden])") !== null;
    if (held) return;
    const before = remembered();
    for (const part of ["header", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
    document.title = fresh.title;
    version = fresh.querySelector(".now").dataset.version;
    behave();
    again(before);
  } finally {
    renewing = false;
  }
}

/* Every few seconds while something runs, ever less often while nothing does, never unseen. */
const LEAST_S = 5;
const MOST_S = 30;
let pause = LEAST_S;
let timer = null;
let asking = false;
async function ask() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  let due = 0;
  try {
    const answer = await fetch("/state", { cache: "no-store" });
    const state = await answer.json();
    due = state.due_s;
    pause = state.under_way || held ? LEAST_S : Math.min(1.5 * pause, MOST_S);
    tell(state);
    renew().catch(lose);
  } catch {
    lose();
    pause = LEAST_S;
  }
  asking = false;
  if (!document.hidden) timer = setTimeout(ask, 1000 * Math.max(pause, due));
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
ask();
