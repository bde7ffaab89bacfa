// What the page does when it is used: search and filters, code in tabs, charts, copying, addresses and keys.
// All that it shows stands in the document already, packed when it is large; this only shows, hides and arranges it.

const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const get = (id) => document.getElementById(id);
if (get("_main")) document.querySelector("main").innerHTML = await unpacked("_main");
const scenarios = all(".scenario");

// -- what is remembered from one reading to the next ----------------------------------------------------------

const remembered = {
  get(name) {
    try {
      return localStorage.getItem(`d2lparams-${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`d2lparams-${name}`, value);
    } catch {
      // It holds until the page is closed.
    }
  },
};

let hideToast = 0;
function say(text) {
  const toast = get("_toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(hideToast);
  hideToast = setTimeout(() => toast.classList.remove("shown"), 2000);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// -- search and filters ---------------------------------------------------------------------------------------

const search = get("_search");
const group = get("_group");
const differs = get("_differs");
const chips = all("[data-chip]");
const openedBySearch = new Set();

// What can be searched, read once, when it is first needed: a search should not read the page at each letter.
let index = null;
function indexed() {
  index ??= scenarios.map((scenario) => ({
    scenario,
    head: all(".title, .question, .ended", scenario).map((part) => part.textContent).join(" ").toLowerCase(),
    rows: all(".row", scenario).map((row) => ({ row, text: row.textContent.toLowerCase() })),
    tables: all(".table", scenario),
    shown: all("[data-of]").find((row) => row.dataset.of === scenario.id),
    matches: scenario.querySelector(".matches"),
  }));
  return index;
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = differs.getAttribute("aria-pressed") === "true";
  const [kind, wanted] = group.value ? [group.value.split(":")[0], group.value.slice(group.value.indexOf(":") + 1)] : [];
  const has = (text) => words.every((word) => text.includes(word));
  const visible = ({ row }) => !row.dataset.c || !root.classList.contains(`hide-${row.dataset.c}`);
  let shown = 0;
  for (const { scenario, head, rows, tables, shown: glance, matches } of indexed()) {
    const named = has(head);
    let left = 0;
    for (const { row, text } of rows) {
      const stays = (named || words.every((word) => head.includes(word) || text.includes(word))) && (!only || "differs" in row.dataset);
      row.hidden = !stays;
      left += stays && visible({ row });
    }
    for (const table of tables) table.hidden = !table.querySelector(".row:not([hidden])");
    const inGroup = !kind || scenario.dataset[kind] === wanted;
    const stays = inGroup && (left > 0 || (named && (!only || "differs" in scenario.dataset) && (only || !rows.length)));
    scenario.hidden = !stays;
    if (glance) glance.hidden = !stays;
    matches.textContent = stays && left < rows.length && (words.length || only) ? `${left} of ${rows.length} rows` : "";
    // What was found in a row is shown; a title that matches is seen as it is.
    const open = stays && words.length > 0 && !named;
    if (open && !scenario.open) {
      scenario.open = true;
      openedBySearch.add(scenario);
    } else if (!open && openedBySearch.delete(scenario)) {
      scenario.open = false;
    }
    shown += stays;
  }
  for (const block of all(".group")) block.hidden = !block.querySelector(".scenario:not([hidden])");
  for (const body of all(".glance tbody")) body.hidden = !body.querySelector("[data-of]:not([hidden])");
  get("_count").textContent = `${shown} of ${scenarios.length} scenarios`;
  get("_nothing").hidden = shown > 0 || !scenarios.length;
  get("_reset").disabled = !filtered();
  root.classList.toggle("filtered", filtered());
  highlight(words);
}

const filtered = () =>
  search.value !== "" ||
  group.value !== "" ||
  [differs].some((one) => one.getAttribute("aria-pressed") === "true") ||
  chips.some((one) => one.getAttribute("aria-pressed") === "false");

function reset() {
  search.value = "";
  group.value = "";
  differs.setAttribute("aria-pressed", "false");
  for (const chip of chips) press(chip, true);
  filter();
}

// Marks what was found without touching the document; where the browser cannot, nothing is marked.
function highlight(words) {
  if (!globalThis.Highlight) return;
  CSS.highlights.delete("match");
  if (!words.length) return;
  const ranges = [];
  for (const scenario of scenarios) {
    if (scenario.hidden) continue;
    const walker = document.createTreeWalker(scenario, NodeFilter.SHOW_TEXT);
    while (walker.nextNode() && ranges.length < 5000) {
      const text = walker.currentNode.data.toLowerCase();
      for (const word of words) {
        for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          // A letter may be longer when it is small, and a place in small letters beyond the end.
          if (at >= walker.currentNode.length) break;
          const range = new Range();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, Math.min(at + word.length, walker.currentNode.length));
          ranges.push(range);
        }
      }
    }
  }
  CSS.highlights.set("match", new Highlight(...ranges));
}

function press(chip, pressed) {
  chip.setAttribute("aria-pressed", String(pressed));
  root.classList.toggle(`hide-${chip.dataset.chip}`, !pressed);
}

for (const chip of chips) {
  chip.addEventListener("click", () => {
    const pressed = chip.getAttribute("aria-pressed") === "true";
    if (pressed && chips.filter((one) => one.getAttribute("aria-pressed") === "true").length === 1) {
      say("One framework has to stay");
      return;
    }
    press(chip, !pressed);
    filter();
    choose(chosen);
  });
}
differs.addEventListener("click", () => {
  differs.setAttribute("aria-pressed", String(differs.getAttribute("aria-pressed") !== "true"));
  filter();
});
let soon = 0;
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  clearTimeout(soon);
  filter();
  const first = scenarios.find((one) => !one.hidden);
  if (first) go(first);
});
search.addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(filter, 80);
});
group.addEventListener("change", filter);
get("_reset").addEventListener("click", reset);
for (const button of all("[data-reset]")) button.addEventListener("click", reset);
get("_more").addEventListener("click", (event) => {
  const open = get("_filters").classList.toggle("open");
  event.currentTarget.setAttribute("aria-expanded", String(open));
});
get("_open-all").addEventListener("click", () => scenarios.forEach((one) => (one.open = !one.hidden || one.open)));
get("_close-all").addEventListener("click", () => scenarios.forEach((one) => (one.open = false)));

// -- code in tabs ---------------------------------------------------------------------------------------------

// The framework whose code is shown, in all tabs of the page; by its place.
let chosen = remembered.get("framework") ?? "";
let made = 0;

// Made when the scenario is opened: the code of all scenarios at once would be several times the page.
function build(scenario) {
  for (const list of all(".sources", scenario)) {
    const tablist = element("div", { role: "tablist", "aria-label": "Framework" });
    const panels = element("div", { class: "panels" });
    for (const source of list.querySelectorAll("li[data-c]")) {
      const { c } = source.dataset;
      const label = source.textContent;
      const id = `_tab-${made++}`;
      tablist.append(element("button", { type: "button", role: "tab", id, "aria-controls": `${id}-panel`, "data-c": c }, label));
      panels.append(
        element(
          "div",
          { class: "panel", role: "tabpanel", id: `${id}-panel`, "aria-labelledby": id, tabindex: "0", "data-c": c },
          element("div", { class: "panel-name" }, label),
          ...code(source),
        ),
      );
    }
    const others = all(".others", list);
    list.replaceWith(element("div", { class: "tabs" }, ...(panels.children.length ? [tablist, panels] : []), ...others));
  }
  choose(chosen);
}

function code(source) {
  const link = source.querySelector("a");
  const article = get(link.hash.slice(1));
  const of = (one) => one.querySelector("pre").cloneNode(true);
  const place = (one) => one.querySelector(".place").textContent;
  const helpers = article.dataset.calls.split(" ").filter(Boolean).map(get);
  const name = article.querySelector("h3 code").textContent;
  const parts = [element("span", { class: "place" }, place(article), " ", element("a", { href: link.hash }, name)), of(article)];
  if (helpers.length) {
    const names = helpers.map((one) => one.querySelector("h3 code").textContent);
    const folded = element("details", { class: "fold" }, element("summary", {}, `what it calls: ${names.join(", ")}`));
    for (const one of helpers) folded.append(element("span", { class: "place" }, place(one)), of(one));
    parts.push(folded);
  }
  return parts;
}

const beside = () => root.classList.contains("beside");

function choose(column) {
  for (const tabs of all(".tabs")) {
    const tab = all("[role=tab]", tabs).filter((one) => !root.classList.contains(`hide-${one.dataset.c}`));
    if (!tab.length) continue;
    // The reference is no framework: it is shown when it is asked for.
    const frameworks = tab.filter((one) => !references.has(one.dataset.c));
    const active = tab.find((one) => one.dataset.c === column) ?? frameworks[0] ?? tab[0];
    for (const one of all("[role=tab]", tabs)) {
      const selected = one === active;
      one.setAttribute("aria-selected", String(selected));
      one.tabIndex = selected ? 0 : -1;
      get(one.getAttribute("aria-controls")).hidden = !selected && !beside();
    }
  }
}
const references = new Set(all(".card").filter((card) => card.querySelector("h3 small")).map((card) => card.dataset.c));

// What was clicked stays where it is, though the code above it gets longer or shorter.
function keeping(thing, change) {
  const before = thing.getBoundingClientRect().top;
  change();
  scrollBy({ top: thing.getBoundingClientRect().top - before, behavior: "instant" });
}

function pick(tab) {
  chosen = tab.dataset.c;
  remembered.set("framework", chosen);
  keeping(tab, () => choose(chosen));
}

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) pick(tab);
  const view = event.target.closest("[data-view]");
  if (view) {
    remembered.set("view", view.dataset.view);
    keeping(view, () => look(view.dataset.view));
  }
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (!tab || event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = all("[role=tab]", tab.parentElement).filter((one) => one.offsetParent);
  const at = tabs.indexOf(tab);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = tabs[to % tabs.length];
  pick(next);
  next.focus({ preventScroll: true });
});

function look(view) {
  root.classList.toggle("beside", view === "beside");
  for (const button of all("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  choose(chosen);
}
look(remembered.get("view") === "beside" ? "beside" : "tabs");

for (const scenario of scenarios) {
  scenario.addEventListener("toggle", () => scenario.open && build(scenario));
  if (scenario.open) build(scenario);
}

// -- charts ---------------------------------------------------------------------------------------------------

// Vega's colours are those of the page, as they are at the moment.
function colours(figure) {
  const of = (selector) => getComputedStyle(figure.querySelector(selector)).color;
  const ink = of("strong");
  const soft = of("figcaption");
  const style = getComputedStyle(figure);
  const words = { labelColor: soft, titleColor: soft, labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal" };
  return {
    background: style.backgroundColor,
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: style.borderTopColor },
    axis: { ...words, gridColor: style.borderTopColor, domainColor: soft, tickColor: soft },
    legend: { ...words, labelColor: ink, symbolBaseStrokeColor: soft, columns: Math.max(2, Math.floor(figure.clientWidth / 180)) },
    header: { ...words, labelColor: ink, labelFontSize: 12 },
    title: { color: ink, subtitleColor: soft, fontSize: 13, fontWeight: 600, anchor: "start" },
    text: { color: ink },
    rule: { color: soft },
  };
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

// Vega and all that it draws are packed; they are unpacked once, when the page has nothing else to do, or a chart is seen.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(get(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function unpack() {
  const [vega, specs] = await Promise.all(["_vega", "_specs"].map(unpacked));
  // The page's policy knows this script by its hash, as it does those that stand in the document.
  document.head.append(element("script", {}, vega));
  return JSON.parse(specs);
}

let pending;
const specs = () => (pending ??= unpack());

async function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  figure.dataset.drawn = "";
  try {
    const spec = (await specs())[charts.indexOf(figure)];
    // Vega does not fit views that stand below each other to their frame: it leaves out what axes take.
    for (const one of spec.vconcat ?? []) if (one.width === "container") one.width = Math.max(240, canvas.clientWidth - 120);
    // On a phone, panels that stand beside each other stand below each other.
    if (spec.columns && figure.clientWidth < 680) spec.columns = 1;
    await vegaEmbed(canvas, spec, {
      // Without functions made of text, which the page's own policy forbids.
      ast: true,
      renderer: "svg",
      logLevel: 1,
      config: colours(figure),
      tooltip: { theme: isDark() ? "dark" : "light" },
      actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
      downloadFileName: `${figure.closest(".scenario").id} ${figure.querySelector("strong").textContent}`,
    });
  } catch (error) {
    canvas.replaceChildren(element("p", { class: "alt" }, `This chart could not be drawn: ${error.message}. ${canvas.getAttribute("aria-label")}`));
  }
}

const charts = all(".chart");
const near = new IntersectionObserver(
  (seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        near.unobserve(target);
        draw(target);
      }
    }
  },
  { rootMargin: "300px" },
);
for (const figure of charts) near.observe(figure);
if (charts.length) (globalThis.requestIdleCallback ?? setTimeout)(() => specs().catch(() => {}));
const redraw = () => charts.filter((figure) => "drawn" in figure.dataset).forEach(draw);

// -- light and dark -------------------------------------------------------------------------------------------

const themes = { "": "◐ Auto", light: "☀ Light", dark: "☾ Dark" };
const theme = get("_theme");
function paint(name) {
  if (name) root.dataset.theme = name;
  else delete root.dataset.theme;
  theme.textContent = themes[name];
  theme.setAttribute("aria-label", `Colours: ${name || "automatic"}`);
}
paint(root.dataset.theme ?? "");
theme.addEventListener("click", () => {
  const names = Object.keys(themes);
  const next = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
  remembered.set("theme", next);
  paint(next);
  redraw();
});
dark.addEventListener("change", redraw);

// -- copying --------------------------------------------------------------------------------------------------

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page opened from a file may not have the clipboard; a selection can be copied anywhere.
    const area = element("textarea", { readonly: "", style: "position: fixed; opacity: 0" });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
    if (!copied) return say("The browser does not let this page copy");
  }
  say(`${what} copied`);
}

const shown = (thing) => !thing.hidden && !(thing.dataset.c && root.classList.contains(`hide-${thing.dataset.c}`));

// A cell's own words, without its folds and buttons, as Markdown takes them.
function words(cell) {
  const clone = cell.cloneNode(true);
  for (const other of clone.querySelectorAll(".aside, .anchor, button")) other.remove();
  for (const part of clone.querySelectorAll(".value, .problem, .how, .mark, .name, small")) part.append("\n");
  const lines = clone.textContent.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => line.replace(/[\\`*_[\]<>|~#&]/g, "\\$&")).join("<br>");
}

function markdown(table) {
  const row = (cells) => `| ${cells.join(" | ")} |`;
  const of = (line) => all(":scope > th, :scope > td", line).filter(shown).map(words);
  const head = of(table.tHead.rows[0]);
  const body = [...table.tBodies].filter((one) => !one.hidden).flatMap((one) => [...one.rows]);
  const lines = body.filter((line) => shown(line) && !line.classList.contains("aside")).map((line) => row(of(line)));
  return [row(head), row(head.map(() => "---")), ...lines, ""].join("\n");
}

const address = (id) => `${location.href.split("#")[0]}#${id}`;

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  const anchor = event.target.closest(".anchor");
  if (anchor) copy(address(anchor.hash.slice(1)), "Link");
  if (!button) return;
  if (button.dataset.copy === "markdown") copy(markdown(button.closest(".table").querySelector("table")), "Table");
  if (button.dataset.copy === "link") copy(address(button.closest(".scenario").id), "Link");
  if (button.dataset.copy === "program") copy(`${button.nextElementSibling.textContent}\n`, "Script");
});

// -- addresses ------------------------------------------------------------------------------------------------

// Shows what the address names, wherever it is folded away or filtered out.
function reveal() {
  let id = location.hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {
    // It is no address of ours, then.
  }
  const target = id && get(id);
  if (!target) return;
  if (target.closest("[hidden]") || (target.dataset.c && root.classList.contains(`hide-${target.dataset.c}`))) reset();
  for (let at = target; at; at = at.parentElement) if (at.localName === "details") at.open = true;
  for (const one of all(".found")) one.classList.remove("found");
  target.classList.add("found");
  target.scrollIntoView({ block: target.matches(".row") ? "center" : "start", behavior: "instant" });
  const focus = target.matches("details") ? target.querySelector("summary") : target;
  if (!focus.matches("summary, a, button")) focus.tabIndex = -1;
  focus.focus({ preventScroll: true });
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  // The browser tells of a change only; the same address again should lead there again.
  if (link && link.hash === location.hash) setTimeout(reveal);
});

// -- keys -----------------------------------------------------------------------------------------------------

const keys = get("_keys");
const current = () => document.activeElement?.closest(".scenario") ?? scenarios.find((one) => one.classList.contains("here"));

function step(by) {
  const visible = scenarios.filter((one) => !one.hidden);
  const at = visible.indexOf(current());
  const next = visible[at < 0 ? 0 : Math.min(Math.max(at + by, 0), visible.length - 1)];
  if (next) go(next);
}

function go(next) {
  for (const one of scenarios) one.classList.toggle("here", one === next);
  const summary = next.querySelector("summary");
  summary.focus({ preventScroll: true });
  summary.scrollIntoView({ block: "nearest" });
  const bar = document.querySelector(".bar").getBoundingClientRect().bottom;
  if (summary.getBoundingClientRect().top < bar) next.scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && (event.target === search || filtered()) && !keys.open) {
    if (search.value) {
      search.value = "";
      filter();
    } else {
      search.blur();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || keys.open) return;
  const actions = {
    "/": () => search.focus(),
    j: () => step(1),
    k: () => step(-1),
    o: () => current() && (current().open = !current().open),
    "?": () => keys.showModal(),
  };
  // On a summary, a link or a button, Enter does already what it does there.
  if (event.key === "Enter" && !event.target.closest("summary, a, button, [role=tab]")) actions.Enter = actions.o;
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
get("_help").addEventListener("click", () => keys.showModal());
get("_keys-close").addEventListener("click", () => keys.close());

// -- paper ----------------------------------------------------------------------------------------------------

let openedToPrint = [];
let themeOnScreen;
addEventListener("beforeprint", () => {
  openedToPrint = scenarios.filter((one) => !one.hidden && !one.open);
  for (const scenario of openedToPrint) scenario.open = true;
  // Paper is white, and on it are all charts, whether they have been seen or not.
  themeOnScreen = root.dataset.theme;
  root.dataset.theme = "light";
  charts.forEach(draw);
});
addEventListener("afterprint", () => {
  for (const scenario of openedToPrint) scenario.open = false;
  paint(themeOnScreen ?? "");
  redraw();
});

// -- what a table is ------------------------------------------------------------------------------------------

// On a phone its parts are blocks, and some readers of screens would take it for no table any more.
const roles = { table: "table", "thead, tbody": "rowgroup", tr: "row", td: "cell", "tbody th": "rowheader", "thead th": "columnheader" };
for (const [selector, role] of Object.entries(roles)) {
  for (const part of all(`.scenario :is(${selector})`)) part.setAttribute("role", role);
}

// -- at last --------------------------------------------------------------------------------------------------

const bar = document.querySelector(".bar");
bar.hidden = false;
const measure = () => root.style.setProperty("--bar", `${bar.offsetHeight}px`);
measure();
new ResizeObserver(measure).observe(bar);
filter();
reveal();
