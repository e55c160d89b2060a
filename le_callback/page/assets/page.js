// The page: state, the first screen, the classes at the cursor, and what is folded.
import { Run, number, text } from "./data.js";
import { Chart, axis, make, shown, verdictClass } from "./plots.js";
import { Clouds, Matrix, pairWord, worstTable } from "./classes.js";

const GUIDE = "https://github.com/le-callback/le_callback/blob/main/docs/guide.md";
const EVERY = 5000; // milliseconds between looks at a run that is being written
const MOST_SHOWN = 12; // runs side by side
const GAP = "le/I_logits/amplitude_difference", GAMMA = "le/I_logits/gamma";
const ACCURACY = "separation/logits/nearest_mean_accuracy", ETF = "etf/{}/angle_deviation_deg";

function gapLines(run) {
  const K = run.head.count, scale = Math.sqrt(2 / Math.max(1, K - 1)), ends = (i) => run.rows.map((row) => number(row.gaps?.[i]));
  return [{ name: "typical pair", y: run.column(GAP).map((value) => value * scale), low: ends(0), high: ends(1) }];
}

function separabilityLines(run) {
  const worst = run.rows.map((row) => run.worst(row)), accuracy = run.column(ACCURACY);
  const pair = (index) => (worst[index] ? `(${worst[index].slice(0, 2).map((k) => run.className(k)).join(" / ")})` : "");
  const share = (index) => (Number.isFinite(accuracy[index]) ? `· nearest-mean accuracy ${shown(accuracy[index])}` : "");
  return [
    { name: "worst pair", y: worst.map((found) => (found ? number(found[2]) : NaN)), more: pair },
    { name: "median pair", y: run.rows.map((row) => number(row.median?.logits ?? row.median?.features)), more: share },
  ];
}

const CHARTS = [
  { title: "Gap between classes", unit: "logits, log axis", log: true, lines: gapLines,
    nothing: "no gap stands out of the sampling noise",
    note: "Distance of two class means; the band runs from the nearest to the farthest pair.",
    healthy: "rises, then levels off.", trouble: "flat from the start; or the lower edge stays behind: a mixed pair." },
  { title: "Growth of the gap, γ", unit: "per step", robust: true, include: [0], nothing: "not known while no gap stands out",
    lines: (run) => [{ name: "γ", y: run.column(GAMMA), low: run.lowHigh(GAMMA, "low"), high: run.lowHigh(GAMMA, "high") }],
    note: "Rate at which the gap grows, with its interval.",
    healthy: "above 0 while the gap grows, then towards 0.", trouble: "at or below 0 before the classes are apart." },
  { title: "Held-out separability, D", unit: "deviations", robust: true, include: [0, 4], lines: separabilityLines,
    references: () => [{ at: 2, label: "overlap below 2" }],
    note: "Distance of two classes over their width, on samples that did not choose the direction.",
    healthy: "both rise above 4.", trouble: "the worst pair stays below 2: its classes overlap." },
  { title: "Distance from the ideal shape", unit: "degrees from a simplex ETF", include: [0, 10],
    lines: (run) => ["logits", "features"].map((layer) => ({ name: layer, y: run.column(ETF.replace("{}", layer)) })),
    note: "How unequal the angles between class means are.",
    healthy: "falls towards 0 late in training.", trouble: "rises again: some classes move together." },
];

export class View {
  constructor(root, source) {
    Object.assign(this, { root, source, runs: new Map(), names: [], chosen: [], cursor: null, pair: null, kind: "D",
      layer: "logits", clustered: true, of: "widest", zoom: false, xKind: "step", filter: "", playing: 0 });
    root.className = "le-page";
    root.replaceChildren(this.header(), this.answers = make("dl", { className: "answers" }), this.alerts = make("div", { className: "alerts" }),
      this.problem = make("p", { className: "problem", role: "status" }), this.charts(), this.classes(), this.folded());
    new ResizeObserver(() => this.draw()).observe(root);
    document.addEventListener("keydown", (event) => this.key(event));
    this.follow();
  }

  // The parts of the page, once.

  header() {
    this.picker = make("details", { className: "picker" }, this.pickerTitle = make("summary", {}, "no run"),
      this.pickerBox = make("div", { className: "box" },
        make("input", { type: "search", placeholder: "find a run", ariaLabel: "find a run", oninput: (event) => { this.filter = event.target.value; this.listRuns(); } }),
        make("p", { className: "note" }, "A name shows that run; a tick adds it to the charts."),
        this.pickerList = make("ul")));
    this.facts = make("div", { className: "facts" });
    const axes = make("select", { ariaLabel: "horizontal axis", onchange: (event) => { this.xKind = event.target.value; this.draw(); } },
      ...[["step", "by step"], ["log", "by step, log axis"], ["lr", "by cumulative learning rate"]].map(([value, label]) => make("option", { value }, label)));
    this.endButton = make("button", { type: "button", className: "end", hidden: true, onclick: () => this.follow() }, "to the end");
    return make("header", {}, make("h1", {}, "Separability"), this.picker, this.facts, this.endButton, axes,
      make("a", { href: GUIDE, target: "_blank", rel: "noopener noreferrer" }, "guide"));
  }

  charts() {
    this.four = CHARTS.map((describe) => new Chart(describe, this));
    return make("div", { className: "four" }, ...this.four.map((chart) => chart.node));
  }

  classes() {
    const choice = (name, options, key, parse = (value) => value) => make("label", {}, `${name} `,
      make("select", { onchange: (event) => { this[key] = parse(event.target.value); this.drawClasses(); } },
        ...options.map(([value, label]) => make("option", { value }, label))));
    this.slider = make("input", { type: "range", min: 0, value: 0, ariaLabel: "step", oninput: (event) => this.seekRow(Number(event.target.value)) });
    this.playButton = make("button", { type: "button", className: "play", onclick: () => this.play() }, "▶ play");
    this.stepShown = make("output");
    this.matrix = new Matrix(this);
    this.clouds = new Clouds(this);
    this.table = make("div");
    this.history = new Chart({ title: "History of a pair", unit: "D in deviations", include: [0, 2], robust: true, note: "How far the two classes are apart over their width.",
      healthy: "rises above 4.", trouble: "stays below 2, where they overlap, or falls.", references: () => [{ at: 2, label: "overlap" }],
      lines: (run) => (this.pair ? ["logits", "features"].map((layer) => {
        const [steps, y] = run.pairHistory(this.pair, layer, "D");
        return { name: layer, steps, y };
      }) : []) }, this);
    this.history.node.classList.add("history");
    return make("section", { className: "classes" },
      make("div", { className: "time" }, make("h2", {}, "Classes at the cursor"), this.playButton, this.slider, this.stepShown),
      make("div", { className: "three" },
        make("section", {}, make("h3", {}, "Every pair"),
          make("div", { className: "choices" }, choice("show", [["D", "distance D"], ["cosine", "cosines"], ["E", "LE matrix E"]], "kind"),
            choice("of", [["logits", "logits"], ["features", "features"]], "layer"),
            choice("order", [["yes", "by cluster"], ["", "as given"]], "clustered", Boolean)), this.matrix.node),
        make("section", {}, make("h3", {}, "Worst pairs"), make("p", { className: "note" }, "Smallest distance D first, in deviations. Click on a pair for its history."), this.table, this.history.node),
        make("section", {}, make("h3", {}, "Class means"),
          make("div", { className: "choices" }, choice("plane", [["widest", "widest"], ["pair", "of the pair"]], "of"),
            choice("scale", [["", "same for the run"], ["yes", "fit each step"]], "zoom", Boolean)), this.clouds.node)));
  }

  folded() {
    this.more = make("section", { className: "more" }, make("h2", {}, "More"));
    this.groups = new Map();
    return this.more;
  }

  // What is shown.

  primary() {
    return this.runs.get(this.chosen[0]) ?? null;
  }

  shownRuns() {
    return this.chosen.slice(0, MOST_SHOWN).map((name) => this.runs.get(name)).filter((run) => run && run.rows.length);
  }

  stepNow() {
    return this.cursor ?? this.primary()?.rows.at(-1)?.step ?? 0;
  }

  row() {
    const run = this.primary();
    return run?.rows[run.indexAt("rows", this.stepNow())] ?? run?.rows[0] ?? null;
  }

  frame() {
    const run = this.primary();
    return run?.frames[Math.max(0, run.indexAt("frames", this.stepNow()))] ?? null;
  }

  spentAt(run, step) {
    const index = run.indexAt("rows", step), row = run.rows[index], after = run.rows[index + 1];
    if (!row) return after ? (after.spent * step) / Math.max(1, after.step) : 0;
    return after ? row.spent + ((after.spent - row.spent) * (step - row.step)) / (after.step - row.step) : row.spent;
  }

  xScale(left, right) {
    const ends = this.shownRuns().map((run) => (this.xKind === "lr" ? run.rows.at(-1).spent : run.rows.at(-1).step));
    return axis(this.xKind, Math.max(...ends, 1e-9))(left, right);
  }

  xOf(run, step, scale) {
    return scale(this.xKind === "lr" ? this.spentAt(run, step) : step);
  }

  cursorX(scale) {
    const run = this.primary();
    return run ? this.xOf(run, this.stepNow(), scale) : -10;
  }

  // What the user does.

  seek(x) {
    const run = this.primary();
    if (!run?.rows.length) return;
    let index = 0, best = Infinity;
    run.rows.forEach((row, i) => {
      const distance = Math.abs((this.xKind === "lr" ? row.spent : row.step) - x);
      if (distance < best) [best, index] = [distance, i];
    });
    this.seekRow(index);
  }

  seekRow(index) {
    const rows = this.primary()?.rows ?? [];
    if (!rows.length) return;
    this.cursor = index >= rows.length - 1 ? null : rows[Math.max(0, index)].step;
    this.drawCursor();
  }

  follow() {
    this.cursor = null;
    this.drawCursor();
  }

  choosePair(pair) {
    this.pair = this.pair && String(this.pair) === String(pair) ? null : pair;
    this.drawClasses();
    this.history.draw();
  }

  play() {
    const frames = this.primary()?.frames ?? [];
    if (this.playing || frames.length < 2) {
      clearInterval(this.playing);
      this.playing = 0;
    } else {
      let at = this.cursor === null ? 0 : Math.max(0, this.primary().indexAt("frames", this.cursor));
      this.playing = setInterval(() => {
        if (at >= frames.length - 1) {
          this.play();
          return;
        }
        at = Math.min(frames.length - 1, at + Math.ceil(frames.length / 100));
        this.cursor = at === frames.length - 1 ? null : frames[at].step;
        this.drawCursor();
      }, 120);
    }
    this.playButton.textContent = this.playing ? "⏸ pause" : "▶ play";
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|BUTTON|TEXTAREA|SUMMARY)$/.test(event.target.tagName)) return;
    const run = this.primary();
    if (!run) return;
    const index = run.indexAt("rows", this.stepNow()), far = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: index - far, ArrowRight: index + far, Home: 0, End: run.rows.length - 1 }[event.key];
    if (to !== undefined) this.seekRow(to);
    else if (event.key === " ") this.play();
    else return;
    event.preventDefault();
  }

  show(name) {
    this.chosen = [name, ...this.chosen.filter((other) => other !== name && this.ticked?.has(other))];
    this.pair = null;
    this.cursor = null;
    this.load();
  }

  tick(name, on) {
    this.ticked ??= new Set();
    this.ticked[on ? "add" : "delete"](name);
    if (on && !this.chosen.includes(name)) this.chosen.push(name);
    if (!on && this.chosen.length > 1) this.chosen = this.chosen.filter((other) => other !== name);
    this.load();
  }

  // Data.

  async look() {
    try {
      const found = await this.source.list(), names = found.map(({ run }) => run);
      this.names = names;
      const newest = found.reduce((best, other) => (other.changed > best.changed ? other : best), found[0]);
      if (!this.chosen.length && names.length) this.chosen = this.source.all ? names.slice(0, MOST_SHOWN) : [newest.run];
      if (this.source.all && !this.ticked) this.ticked = new Set(this.chosen);
      this.lost = "";
    } catch {
      this.lost = "TensorBoard does not answer.";
    }
    await this.load();
  }

  async load() {
    for (const name of this.chosen) {
      if (!this.runs.has(name)) this.runs.set(name, new Run(name));
      const run = this.runs.get(name);
      try {
        while (await this.source.load(run));
        run.problem = "";
      } catch (error) {
        run.problem = error.message;
      }
    }
    this.listRuns();
    this.draw();
  }

  // Drawing.

  listRuns() {
    const wanted = this.filter.toLowerCase(), found = this.names.filter((name) => name.toLowerCase().includes(wanted));
    this.pickerTitle.textContent = this.chosen.length ? `${this.chosen[0]}${this.chosen.length > 1 ? ` and ${this.chosen.length - 1} more` : ""}` : "no run";
    this.pickerTitle.title = this.pickerTitle.textContent;
    this.pickerList.replaceChildren(...found.slice(0, 500).map((name) => {
      const place = this.chosen.indexOf(name), box = make("input", { type: "checkbox", checked: place >= 0, ariaLabel: `add ${name}`,
        onchange: (event) => this.tick(name, event.target.checked) });
      return make("li", { className: place === 0 ? "shown" : "" }, box, make("i", { className: place > 0 ? `swatch run${place % 7}` : "swatch" }),
        make("button", { type: "button", onclick: () => { this.picker.open = false; this.show(name); } }, name));
    }));
    this.picker.hidden = this.names.length < 1;
  }

  draw() {
    const run = this.primary();
    this.problem.textContent = this.lost || (run ? run.problem || (run.rows.length ? "" : "No window of this run has closed yet.")
      : this.names.length ? "" : "No run here has data of this page yet. Train with LECallback() and a logger that writes below this folder.");
    this.root.classList.toggle("empty", !run?.rows.length);
    if (!run?.rows.length) {
      for (const part of [this.answers, this.alerts, this.facts]) part.replaceChildren();
      return;
    }
    this.slider.max = run.rows.length - 1;
    const unit = run.head.unit;
    this.four[1].node.querySelector(".unit").textContent = `, per ${unit}`;
    for (const chart of this.four) chart.draw();
    this.drawMore(run);
    this.drawCursor();
  }

  drawCursor() {
    const run = this.primary(), row = this.row();
    if (!row) return;
    this.endButton.hidden = this.cursor === null;
    this.slider.value = Math.max(0, run.indexAt("rows", this.stepNow()));
    const frame = this.frame();
    this.stepShown.textContent = frame ? `step ${shown(frame.step, 12)}` : "no matrices yet";
    this.drawAnswers(run, row);
    for (const chart of [...this.four, ...this.openCharts()]) chart.moveCursor();
    this.drawClasses();
  }

  drawAnswers(run, row) {
    const facts = [["step", shown(row.step, 12)], ["samples a window", shown(number(row.samples), 12)], ["classes", shown(run.head.count, 12)],
      ["own cost", `${shown(number(row.cost?.[0]), 2)} ms a step${number(row.cost?.[1]) >= 0 ? `, ${shown(100 * row.cost[1], 2)}%` : ""}`]];
    this.facts.replaceChildren(...facts.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, value))));
    const word = text(row.verdict, 60), worst = run.worst(row), alerts = run.standing(row);
    const since = Number.isSafeInteger(row.since) ? row.since : null, why = Array.isArray(row.why) ? row.why.map((line) => text(line)).join(" · ") : "";
    const D = worst ? number(worst[2]) : NaN;
    const keys = Array.isArray(row.todo) ? row.todo.filter((key) => typeof key === "string") : [word];
    const filled = { pair: worst ? worst.slice(0, 2).map((k) => run.className(k)).join(" / ") : "", step: shown(number(row.jump?.[0]), 12), factor: shown(number(row.jump?.[1])) };
    const advice = keys.map((key) => text(run.head.advice[key])).join(" ").replace(/{(pair|step|factor)}/g, (_, name) => filled[name]);
    const todo = alerts.length ? alerts.map((alert) => text(alert.advice)).join(" ") : advice || "–";
    const missing = row.missing > 0 ? `${shown(row.missing)} ${row.missing === 1 ? "class" : "classes"} without samples. ` : "";
    const cell = (question, answer, detail, style = "") => make("div", {}, make("dt", {}, question),
      make("dd", { className: style, title: answer }, answer), make("dd", { className: "detail", title: detail }, detail));
    this.answers.replaceChildren(
      cell("Is it separating?", word || "not known yet", why, `answer ${verdictClass(word)}`),
      cell("How fast?", ...split(text(row.rate) || "not known yet")),
      keys.includes("alike") ? cell("Which pair is worst?", "no pair stands out", "half of all pairs are mixed (D below 0.5)")
        : cell("Which pair is worst?", worst ? worst.slice(0, 2).map((k) => run.className(k)).join(" / ") : "not known yet",
        worst ? `${pairWord(D)}: D ${shown(D)} (overlap below 2)` : ""),
      cell("Since when?", since === null ? "not known yet" : since ? `step ${shown(since, 12)}` : "the start", since === null ? "" : `for ${shown(row.step - since, 12)} steps`),
      cell("What to do?", `${missing}${todo}`, "", "todo"));
    this.alerts.replaceChildren(...alerts.map((alert) => make("p", { className: "alert", title: text(alert.cause) }, make("b", {}, `▲ ${text(alert.rule, 60)}`),
      ` since step ${shown(alert.step, 12)}: ${text(alert.cause)} ${text(alert.advice)}`)));
  }

  drawClasses() {
    const run = this.primary(), frame = this.frame();
    if (!run) return;
    this.matrix.draw(run, frame, this);
    this.table.replaceChildren(worstTable(run, run.worstPairs(frame, this.layer), this));
    this.clouds.draw(run, frame, this);
    this.history.node.hidden = !this.pair;
    if (this.pair) {
      this.history.node.querySelector("h3").firstChild.textContent = this.pair.map((k) => run.className(k)).join(" / ");
      if (!this.history.x) this.history.draw();
      this.history.moveCursor();
    }
  }

  openCharts() {
    return [...this.groups.values()].flatMap(({ node, charts }) => (node.open ? charts : []));
  }

  // A fold for each chart of the registry, a small chart for each of its measurements, a line for each model or source.
  drawMore(run) {
    const found = new Map();
    for (const column of run.head.columns) {
      const about = run.head.about[column];
      if (!Array.isArray(about) || /_(low|high)$/.test(column)) continue;
      const [label, unit, meaning, look, group] = about.map((entry) => text(entry, 400));
      const charts = found.get(group) ?? found.set(group, new Map()).get(group), key = `${label}|${meaning}`;
      (charts.get(key) ?? charts.set(key, { label, unit, meaning, look, columns: [] }).get(key)).columns.push(column);
    }
    for (const [group, charts] of found) {
      if (this.groups.has(group)) continue;
      const box = make("div", { className: "small" }), node = make("details", { ontoggle: () => this.drawGroups() }, make("summary", {}, group), box);
      const made = [...charts.values()].map(({ label, unit, meaning, look, columns }) => new Chart({ title: label, unit, note: meaning, look, robust: true,
        lines: (of) => columns.map((column) => ({ name: subject(column, columns), y: of.column(column), low: of.lowHigh(column, "low"), high: of.lowHigh(column, "high") }))
          .filter((line) => line.y.some(Number.isFinite)) }, this));
      box.append(...made.map((chart) => chart.node));
      this.groups.set(group, { node, charts: made });
      this.more.append(node);
    }
    this.drawTexts(run);
    this.drawGroups();
  }

  drawGroups() {
    for (const chart of this.openCharts()) chart.draw();
    if (this.pair) this.history.draw();
  }

  drawTexts(run) {
    const open = this.texts?.map((node) => node.open) ?? [];
    for (const node of this.texts ?? []) node.remove();
    const listed = (pairs) => make("dl", { className: "texts" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const alerts = run.alertSpans().map(([from, to, event]) => [`step ${shown(from, 12)} to ${shown(to, 12)}: ${text(event.rule, 60)}`, `${text(event.cause)} ${text(event.advice)}`]);
    const forecasts = run.events.filter((event) => event.kind === "forecast").map((event) => [`step ${shown(event.step, 12)}`, text(event.text)]);
    const verdicts = run.verdicts().map(([from, to, word]) => [`step ${shown(from, 12)} to ${shown(to, 12)}`, word]);
    const settings = Object.entries({ le_callback: run.head.version, ...run.head.versions, ...run.head.settings }).map(([name, value]) => [name, text(value, 400)]);
    this.texts = [["all alerts", alerts], ["verdicts", verdicts], ["forecast", forecasts], ["settings and versions", settings]]
      .filter(([, pairs]) => pairs.length).map(([name, pairs]) => make("details", {}, make("summary", {}, name), listed(pairs)));
    this.texts.forEach((node, i) => { node.open = open[i] ?? false; });
    this.more.append(...this.texts);
  }
}

// The part before a semicolon or bracket is the answer, the rest its detail.
function split(sentence) {
  const cut = sentence.search(/[;(:]/);
  if (cut < 0) return [sentence, ""];
  return [sentence.slice(0, cut).trim(), sentence.slice(cut).replace(/^[;:]\s*/, "")];
}

// What a tag is of among tags that differ in one part.
function subject(column, columns) {
  const parts = column.split("/");
  const differing = parts.filter((part, i) => columns.some((other) => other.split("/")[i] !== part));
  return (differing.length ? differing : parts.slice(-1)).join("/").replaceAll("_", " ");
}

function theme(root) {
  const query = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    outer = window.parent !== window && window.parent.document.body;
  } catch {
    outer = null; // of another origin
  }
  const set = () => { root.dataset.theme = (outer ? outer.classList.contains("dark-mode") : query.matches) ? "dark" : "light"; };
  set();
  return (redraw) => {
    const change = () => { set(); redraw(); };
    query.addEventListener("change", change);
    if (outer) new MutationObserver(change).observe(outer, { attributes: true, attributeFilter: ["class"] });
  };
}

export function mount(root, source) {
  const watch = theme(document.documentElement), view = new View(root, source);
  watch(() => view.draw());
  view.look();
  if (source.live) setInterval(() => { if (!document.hidden) view.look(); }, EVERY);
  return view;
}

async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
}

export async function renderReport(body, packed) {
  const root = make("main");
  body.append(root);
  const { runs } = await unpacked(packed);
  const found = new Map(runs.map(({ run, lines }) => [run, lines]));
  mount(root, {
    all: true,
    live: false,
    list: async () => runs,
    load: async (run) => {
      if (!run.rows.length) for (const line of found.get(run.name)) run.take(line);
      return false;
    },
  });
}
